-- Flows that have ended and whose sinks may not have been told yet: so that a start need not read all that ever ended. The flow itself is
-- sealed, so that the first start after this looks at each once.
ALTER TABLE flows ADD COLUMN leftover INTEGER NOT NULL DEFAULT 0;

UPDATE flows SET leftover = 1 WHERE state IN ('COMPLETED', 'TERMINATED');

CREATE INDEX flows_with_leftover ON flows (created) WHERE leftover = 1;

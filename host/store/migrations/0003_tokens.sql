CREATE TABLE tokens (
    id      TEXT    NOT NULL PRIMARY KEY,
    context TEXT    NOT NULL,
    flow_id TEXT    NOT NULL,
    access  TEXT    NOT NULL,
    expires INTEGER NOT NULL,
    revoked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_good ON tokens (context, flow_id) WHERE revoked = 0;
CREATE INDEX tokens_by_expiry ON tokens (expires);

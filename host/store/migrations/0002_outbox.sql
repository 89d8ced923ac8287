CREATE TABLE callbacks (
    id            INTEGER PRIMARY KEY, -- order of delivery within a flow
    flow          INTEGER NOT NULL REFERENCES flows (id),
    control_plane TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    message_id    TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    data_address  BLOB,
    error         TEXT    NOT NULL,
    created       INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    next          INTEGER NOT NULL,
    last_error    TEXT    NOT NULL,
    status        TEXT    NOT NULL
) STRICT;

CREATE INDEX callbacks_by_flow ON callbacks (flow);
CREATE INDEX callbacks_pending ON callbacks (next) WHERE status = 'pending';
CREATE INDEX callbacks_settled ON callbacks (created) WHERE status <> 'pending';

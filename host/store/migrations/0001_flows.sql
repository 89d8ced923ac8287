-- Times are microseconds since 1970, UTC; 0 stands for none. What is called content or data_address is sealed.

CREATE TABLE keys (
    name   TEXT NOT NULL PRIMARY KEY,
    sealed BLOB NOT NULL -- a known value, to recognise the key
) STRICT;

-- What is looked for has a column. The flow itself, with all addresses, claims and checkpoints, is sealed.
CREATE TABLE flows (
    id      INTEGER PRIMARY KEY,
    context TEXT    NOT NULL,
    flow_id TEXT    NOT NULL,
    state   TEXT    NOT NULL,
    created INTEGER NOT NULL UNIQUE, -- so that pages of a listing neither miss nor repeat a flow
    updated INTEGER NOT NULL,
    content BLOB    NOT NULL,
    UNIQUE (context, flow_id)
) STRICT;

CREATE INDEX flows_by_state ON flows (state, created);

CREATE TABLE parts (
    flow     INTEGER NOT NULL REFERENCES flows (id),
    name     TEXT    NOT NULL,
    idx      INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    records  INTEGER NOT NULL,
    digests  TEXT    NOT NULL, -- JSON
    location TEXT    NOT NULL,
    finished INTEGER NOT NULL,
    PRIMARY KEY (flow, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX parts_by_index ON parts (flow, idx);

-- Rows are in the order in which they were added, so that the oldest are found without an index. There is no foreign key: flows are
-- never deleted, and whoever adds an answer has just found the flow.
CREATE TABLE answers (
    id           INTEGER PRIMARY KEY,
    flow         INTEGER NOT NULL, -- flows.id
    message_key  INTEGER NOT NULL, -- 64 bits of the digest of message_id, for a small index
    message_id   TEXT    NOT NULL,
    operation    TEXT    NOT NULL,
    body         BLOB,
    state        TEXT    NOT NULL,
    data_address BLOB,
    refused      TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    UNIQUE (flow, message_key)
) STRICT;

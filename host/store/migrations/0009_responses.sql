-- A flow has a family of refresh tokens for each kind of access: that of its data, and that of its response channel.
CREATE TABLE token_families_by_access (
    id            TEXT    NOT NULL PRIMARY KEY,
    context       TEXT    NOT NULL,
    flow_id       TEXT    NOT NULL,
    access        TEXT    NOT NULL,
    generation    INTEGER NOT NULL,
    token         TEXT    NOT NULL, -- tokens.id of this generation's access token, which is kept for longer here
    token_expires INTEGER NOT NULL,
    unused        INTEGER NOT NULL, -- it came from a renewal, and nobody has used it yet
    previous      TEXT    NOT NULL, -- tokens.id of the access token before it; '' if there was none
    issued        INTEGER NOT NULL, -- when this generation was
    expires       INTEGER NOT NULL, -- when its refresh token does
    started       INTEGER NOT NULL, -- when the first generation was issued
    UNIQUE (context, flow_id, access)
) STRICT, WITHOUT ROWID;

INSERT INTO token_families_by_access
    SELECT id, context, flow_id, access, generation, token, token_expires, unused, previous, issued, expires, started FROM token_families;

DROP TABLE token_families;

ALTER TABLE token_families_by_access RENAME TO token_families;

CREATE INDEX token_families_by_expiry ON token_families (expires);

-- What came on the response channels of flows, as parts has what their data is made of.
CREATE TABLE response_parts (
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

CREATE INDEX response_parts_by_index ON response_parts (flow, idx);

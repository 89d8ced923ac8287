-- What is kept of refresh tokens: a flow has one row or none. Nothing in it is secret.
CREATE TABLE token_families (
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
    UNIQUE (context, flow_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX token_families_by_expiry ON token_families (expires);

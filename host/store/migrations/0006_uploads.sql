-- Parts on their way into an ingest, in several requests. They go with the end of their flow. The content is sealed.
CREATE TABLE uploads (
    flow    INTEGER NOT NULL REFERENCES flows (id),
    name    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    content BLOB    NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (flow, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX uploads_by_end ON uploads (expires);

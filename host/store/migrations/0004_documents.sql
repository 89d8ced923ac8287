-- What was configured through an API rather than in a file. The content is sealed.
CREATE TABLE documents (
    kind    TEXT    NOT NULL,
    context TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    content BLOB    NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (kind, context, id)
) STRICT, WITHOUT ROWID;

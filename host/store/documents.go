package store

import (
	"context"
	"fmt"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// PutDocument creates or replaces a document.
func (db *DB) PutDocument(ctx context.Context, d flow.Document) error {
	sealed := db.sealer.seal(d.Content, "documents.content", d.Kind, d.Context, d.ID)
	err := db.change(ctx, func(w *writer) error {
		return w.exec(`INSERT INTO documents (kind, context, id, content, updated) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET content = excluded.content, updated = excluded.updated`,
			d.Kind, d.Context, d.ID, sealed, micros(db.clock()))
	})
	if err != nil {
		return fmt.Errorf("put %s %s: %w", d.Kind, d.ID, err)
	}
	return nil
}

// DeleteDocument removes a document, and reports whether there was one.
func (db *DB) DeleteDocument(ctx context.Context, kind, context, id string) (there bool, err error) {
	err = db.change(ctx, func(w *writer) error {
		n, err := w.count(`DELETE FROM documents WHERE kind = ? AND context = ? AND id = ?`, kind, context, id)
		there = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("delete %s %s: %w", kind, id, err)
	}
	return there, nil
}

// Documents lists the documents of a kind. One that does not open is left out and logged, so that it does not hold up the others.
func (db *DB) Documents(ctx context.Context, kind string) ([]flow.Document, error) {
	found, err := all(ctx, db.read, func(scan scanner) (d flow.Document, err error) {
		var updated int64
		err = scan(&d.Context, &d.ID, &d.Content, &updated)
		d.Kind, d.Updated = kind, fromMicros(updated)
		return d, err
	}, `SELECT context, id, content, updated FROM documents WHERE kind = ? ORDER BY context, id`, kind)
	if err != nil {
		return nil, fmt.Errorf("list documents of kind %s: %w", kind, explain(err))
	}
	opened := found[:0]
	for _, d := range found {
		if d.Content, err = db.sealer.open(d.Content, "documents.content", d.Kind, d.Context, d.ID); err != nil {
			db.logger.Error("a document cannot be read", "kind", kind, "context", d.Context, "id", d.ID, "err", err)
			continue
		}
		opened = append(opened, d)
	}
	return opened, nil
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

var _ flow.Uploads = (*DB)(nil)

// PutUpload creates or replaces an upload of a flow that has not ended.
func (db *DB) PutUpload(ctx context.Context, u flow.Upload) error {
	sealed := db.sealer.seal(u.Content, uploadPlace(u.Key, u.Name)...)
	missing := false // no failure of the transaction, which others share
	err := db.change(ctx, func(w *writer) error {
		n, err := w.count(`INSERT INTO uploads (flow, name, id, content, expires)
			SELECT id, ?, ?, ?, ? FROM flows WHERE context = ? AND flow_id = ? AND state NOT IN (?, ?)
			ON CONFLICT DO UPDATE SET id = excluded.id, content = excluded.content, expires = excluded.expires`,
			u.Name, u.ID, sealed, micros(u.Expires), u.Key.Context, u.Key.ID, string(flow.Completed), string(flow.Terminated))
		missing = err == nil && n == 0
		return err
	})
	if missing && err == nil {
		err = flow.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("put upload of %q to flow %s: %w", u.Name, u.Key, err)
	}
	return nil
}

// Upload returns the upload of that name.
func (db *DB) Upload(ctx context.Context, key flow.Key, name string) (flow.Upload, bool, error) {
	u := flow.Upload{Key: key, Name: name}
	var expires int64
	err := db.read.QueryRowContext(ctx, `SELECT u.id, u.content, u.expires FROM uploads u JOIN flows f ON f.id = u.flow
		WHERE f.context = ? AND f.flow_id = ? AND u.name = ?`, key.Context, key.ID, name).Scan(&u.ID, &u.Content, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return flow.Upload{}, false, nil
	}
	if err == nil {
		u.Expires = fromMicros(expires)
		u.Content, err = db.sealer.open(u.Content, uploadPlace(key, name)...)
	}
	if err != nil {
		return flow.Upload{}, false, fmt.Errorf("read upload of %q to flow %s: %w", name, key, explain(err))
	}
	return u, true, nil
}

// DeleteUpload removes an upload.
func (db *DB) DeleteUpload(ctx context.Context, u flow.Upload) error {
	err := db.change(ctx, func(w *writer) error {
		return w.exec(`DELETE FROM uploads WHERE name = ? AND id = ? AND flow IN (SELECT id FROM flows WHERE context = ? AND flow_id = ?)`,
			u.Name, u.ID, u.Key.Context, u.Key.ID)
	})
	if err != nil {
		return fmt.Errorf("delete upload of %q to flow %s: %w", u.Name, u.Key, err)
	}
	return nil
}

func uploadPlace(key flow.Key, name string) []string {
	return []string{"uploads.content", key.Context, key.ID, name}
}

// Expired lists the uploads whose time was over at now.
func (db *DB) Expired(ctx context.Context, now time.Time) ([]flow.Upload, error) {
	found, err := all(ctx, db.read, func(scan scanner) (u flow.Upload, err error) {
		var expires int64
		err = scan(&u.Key.Context, &u.Key.ID, &u.Name, &u.ID, &expires)
		u.Expires = fromMicros(expires)
		return u, err
	}, `SELECT f.context, f.flow_id, u.name, u.id, u.expires FROM uploads u JOIN flows f ON f.id = u.flow WHERE u.expires < ? ORDER BY u.expires`,
		micros(now))
	if err != nil {
		return nil, fmt.Errorf("list expired uploads: %w", explain(err))
	}
	return found, nil
}

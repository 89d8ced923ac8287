package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/towpath-dataplane/towpath/host/token"
)

const (
	selectToken  = `SELECT id, context, flow_id, access, expires, revoked FROM tokens WHERE id = ?`
	revokeTokens = `UPDATE tokens SET revoked = 1 WHERE context = ? AND flow_id = ? AND revoked = 0`
)

// ReplaceTokens revokes all tokens of r.Flow and records r.
func (db *DB) ReplaceTokens(ctx context.Context, r token.Record) error {
	err := db.change(ctx, func(w *writer) error {
		var there int
		if err := w.one(`SELECT count(*) FROM tokens WHERE id = ?`, r.ID)(&there); err != nil {
			return err
		}
		if there > 0 {
			return fmt.Errorf("%s was recorded before", r.ID)
		}
		if err := w.exec(revokeTokens, r.Flow.Context, r.Flow.ID); err != nil {
			return err
		}
		return w.exec(`INSERT INTO tokens (id, context, flow_id, access, expires, revoked) VALUES (?, ?, ?, ?, ?, ?)`,
			r.ID, r.Flow.Context, r.Flow.ID, string(r.Access), micros(r.Expires), r.Revoked)
	})
	if err != nil {
		return fmt.Errorf("record token: %w", err)
	}
	return nil
}

// RevokeTokens revokes all tokens of a flow.
func (db *DB) RevokeTokens(ctx context.Context, f token.Flow) error {
	err := db.change(ctx, func(w *writer) error { return w.exec(revokeTokens, f.Context, f.ID) })
	if err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// Token returns the record of a token.
func (db *DB) Token(ctx context.Context, id string) (r token.Record, err error) {
	var expires int64
	err = db.readToken.QueryRowContext(ctx, id).Scan(&r.ID, &r.Flow.Context, &r.Flow.ID, &r.Access, &expires, &r.Revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return token.Record{}, token.ErrUnknown
	}
	if err != nil {
		return token.Record{}, fmt.Errorf("read token: %w", explain(err))
	}
	r.Expires = fromMicros(expires)
	return r, nil
}

// PurgeTokens removes the records of tokens that expired before a time.
func (db *DB) PurgeTokens(ctx context.Context, before time.Time) error {
	err := db.purge(ctx, `DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires < ? LIMIT ?)`, before)
	if err != nil {
		return fmt.Errorf("purge tokens: %w", err)
	}
	return nil
}

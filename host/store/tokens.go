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
	selectToken = `SELECT t.id, t.context, t.flow_id, t.access, t.expires, t.revoked, coalesce(f.unused = 1 AND f.token = t.id, 0)
		FROM tokens t LEFT JOIN token_families f ON f.context = t.context AND f.flow_id = t.flow_id AND f.access = t.access WHERE t.id = ?`
	selectFamily = `SELECT id, generation, token, context, flow_id, access, token_expires, unused, issued, previous, expires, started
		FROM token_families WHERE id = ?`
	insertFamily = `INSERT OR REPLACE INTO token_families
		(id, generation, token, context, flow_id, access, token_expires, unused, issued, previous, expires, started)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

// ReplaceTokens revokes the tokens of a flow with an access, drops their family, and records a new token and the family that it begins.
func (db *DB) ReplaceTokens(ctx context.Context, f token.Family) error {
	err := db.change(ctx, func(w *writer) error {
		if err := unrecorded(w, f.Current.ID); err != nil {
			return err
		}
		if err := dropTokens(w, f.Current.Flow, f.Current.Access); err != nil {
			return err
		}
		return putTokens(w, f)
	})
	if err != nil {
		return fmt.Errorf("record token: %w", err)
	}
	return nil
}

// RenewTokens moves a family to its next generation.
func (db *DB) RenewTokens(ctx context.Context, f token.Family) error {
	err := db.change(ctx, func(w *writer) error {
		var before int64
		err := w.one(`SELECT generation FROM token_families WHERE id = ?`, f.ID)(&before)
		if errors.Is(err, sql.ErrNoRows) || err == nil && before+1 != int64(f.Generation) {
			return token.ErrStale
		}
		if err != nil {
			return err
		}
		if err := unrecorded(w, f.Current.ID); err != nil {
			return err
		}
		if err := revokeTokens(w, f.Current.Flow, f.Current.Access, f.Previous); err != nil {
			return err
		}
		return putTokens(w, f)
	})
	if err != nil {
		return fmt.Errorf("renew tokens: %w", err)
	}
	return nil
}

// UseToken says that a token was used.
func (db *DB) UseToken(ctx context.Context, f token.Flow, id string) error {
	err := db.change(ctx, func(w *writer) error {
		return w.exec(`UPDATE token_families SET unused = 0 WHERE context = ? AND flow_id = ? AND token = ?`, f.Context, f.ID, id)
	})
	if err != nil {
		return fmt.Errorf("use token: %w", err)
	}
	return nil
}

// RevokeTokens revokes all tokens of a flow and drops its families.
func (db *DB) RevokeTokens(ctx context.Context, f token.Flow) error {
	err := db.change(ctx, func(w *writer) error { return dropTokens(w, f, anyAccess) })
	if err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// RevokeFamily revokes all tokens of a family's flow and access and drops the family.
func (db *DB) RevokeFamily(ctx context.Context, id string) error {
	err := db.change(ctx, func(w *writer) error {
		var f token.Flow
		var access token.Access
		err := w.one(`SELECT context, flow_id, access FROM token_families WHERE id = ?`, id)(&f.Context, &f.ID, &access)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return dropTokens(w, f, access)
	})
	if err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// unrecorded refuses an id that was recorded before.
func unrecorded(w *writer, id string) error {
	var there int
	if err := w.one(`SELECT count(*) FROM tokens WHERE id = ?`, id)(&there); err != nil {
		return err
	}
	if there > 0 {
		return fmt.Errorf("%s was recorded before", id)
	}
	return nil
}

// anyAccess stands for all kinds of access.
const anyAccess token.Access = ""

// revokeTokens revokes the tokens of a flow with an access but one.
func revokeTokens(w *writer, f token.Flow, access token.Access, but string) error {
	return w.exec(`UPDATE tokens SET revoked = 1 WHERE context = ?1 AND flow_id = ?2 AND revoked = 0 AND (?3 = '' OR access = ?3) AND id <> ?4`,
		f.Context, f.ID, string(access), but)
}

func dropTokens(w *writer, f token.Flow, access token.Access) error {
	if err := revokeTokens(w, f, access, ""); err != nil {
		return err
	}
	return w.exec(`DELETE FROM token_families WHERE context = ?1 AND flow_id = ?2 AND (?3 = '' OR access = ?3)`, f.Context, f.ID, string(access))
}

// putTokens writes a family, if it has an id, and the record of its current token.
func putTokens(w *writer, f token.Family) error {
	r := f.Current
	err := w.exec(`INSERT INTO tokens (id, context, flow_id, access, expires, revoked) VALUES (?, ?, ?, ?, ?, ?)`,
		r.ID, r.Flow.Context, r.Flow.ID, string(r.Access), micros(r.Expires), r.Revoked)
	if err != nil || f.ID == "" {
		return err
	}
	return w.exec(insertFamily, f.ID, int64(f.Generation), r.ID, r.Flow.Context, r.Flow.ID, string(r.Access), micros(r.Expires), r.Unused,
		micros(f.Issued), f.Previous, micros(f.Expires), micros(f.Started))
}

// Token returns the record of a token.
func (db *DB) Token(ctx context.Context, id string) (r token.Record, err error) {
	var expires int64
	err = db.readToken.QueryRowContext(ctx, id).Scan(&r.ID, &r.Flow.Context, &r.Flow.ID, &r.Access, &expires, &r.Revoked, &r.Unused)
	if errors.Is(err, sql.ErrNoRows) {
		return token.Record{}, token.ErrUnknown
	}
	if err != nil {
		return token.Record{}, fmt.Errorf("read token: %w", explain(err))
	}
	r.Expires = fromMicros(expires)
	return r, nil
}

// Family returns the family of a flow's refresh tokens.
func (db *DB) Family(ctx context.Context, id string) (f token.Family, err error) {
	var tokenExpires, issued, expires, started int64
	r := &f.Current
	err = db.read.QueryRowContext(ctx, selectFamily, id).Scan(&f.ID, &f.Generation, &r.ID, &r.Flow.Context, &r.Flow.ID, &r.Access,
		&tokenExpires, &r.Unused, &issued, &f.Previous, &expires, &started)
	if errors.Is(err, sql.ErrNoRows) {
		return token.Family{}, token.ErrUnknown
	}
	if err != nil {
		return token.Family{}, fmt.Errorf("read family of tokens: %w", explain(err))
	}
	r.Expires, f.Issued, f.Expires, f.Started = fromMicros(tokenExpires), fromMicros(issued), fromMicros(expires), fromMicros(started)
	return f, nil
}

// PurgeTokens removes the records of tokens that expired before a time, those of revoked tokens that never would, and the families whose
// refresh token expired.
func (db *DB) PurgeTokens(ctx context.Context, before time.Time) error {
	for _, p := range []struct {
		statement string
		time      time.Time
	}{
		{`DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires < ? LIMIT ?)`, before},
		{`DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires = ? AND revoked = 1 LIMIT ?)`, token.Never},
		{`DELETE FROM token_families WHERE id IN (SELECT id FROM token_families WHERE expires < ? LIMIT ?)`, before},
	} {
		if err := db.purge(ctx, p.statement, p.time); err != nil {
			return fmt.Errorf("purge tokens: %w", err)
		}
	}
	return nil
}

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

const selectCallbacks = `SELECT c.id, f.context, f.flow_id, c.control_plane, c.send_to, c.kind, c.message_id, c.state, c.data_address, c.error,
	c.created, c.attempts, c.next, c.last_error, c.status FROM callbacks AS c JOIN flows AS f ON f.id = c.flow `

// isHead says that a callback is the first pending one of its flow.
const isHead = `c.status = 'pending' AND NOT EXISTS (SELECT 1 FROM callbacks AS earlier
	WHERE earlier.flow = c.flow AND earlier.id < c.id AND earlier.status = 'pending')`

// Callbacks lists what the outbox holds for a flow.
func (db *DB) Callbacks(ctx context.Context, key flow.Key) ([]flow.Callback, error) {
	found, err := all(ctx, db.read, db.sealer.scanCallback,
		selectCallbacks+`WHERE f.context = ? AND f.flow_id = ? ORDER BY c.id`, key.Context, key.ID)
	if err != nil {
		return nil, fmt.Errorf("list callbacks of flow %s: %w", key, explain(err))
	}
	return found, nil
}

// Due returns callbacks to deliver now. One whose address does not open can never be delivered: it is given up, so that it does not
// hold up the others.
func (db *DB) Due(ctx context.Context, now time.Time, limit int) ([]flow.Callback, error) {
	due, broken, err := db.due(ctx, now, limit)
	if err != nil {
		return nil, fmt.Errorf("find due callbacks: %w", explain(err))
	}
	for _, c := range broken {
		db.logger.Error("a callback cannot be read", "flow", c.Key.String(), "callback", c.ID)
		c.Status, c.LastErr = flow.CallbackFailed, "its data address cannot be read"
		if err := db.Settle(ctx, c); err != nil {
			return nil, err
		}
	}
	return due, nil
}

func (db *DB) due(ctx context.Context, now time.Time, limit int) (due, broken []flow.Callback, err error) {
	rows, err := db.read.QueryContext(ctx, selectCallbacks+`WHERE `+isHead+` AND c.next <= ? ORDER BY c.next, c.id LIMIT ?`,
		now.UnixMicro(), max(limit, 0))
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		c, err := db.sealer.scanCallback(rows.Scan)
		switch {
		case errors.Is(err, ErrCorrupt):
			broken = append(broken, c)
		case err != nil:
			return nil, nil, err
		default:
			due = append(due, c)
		}
	}
	return due, broken, rows.Err()
}

// Settle records the outcome of an attempt, unless the callback is settled already.
func (db *DB) Settle(ctx context.Context, c flow.Callback) error {
	err := db.change(ctx, func(w *writer) error {
		err := w.one(`SELECT id FROM callbacks WHERE id = ?`, c.ID)(&c.ID)
		if errors.Is(err, sql.ErrNoRows) {
			return errors.New("no such callback")
		}
		if err != nil {
			return err
		}
		return w.exec(`UPDATE callbacks SET status = ?, attempts = ?, next = ?, last_error = ? WHERE id = ? AND status = 'pending'`,
			string(c.Status), c.Attempts, micros(c.Next), c.LastErr, c.ID)
	})
	if err != nil {
		return fmt.Errorf("settle callback %d: %w", c.ID, err)
	}
	return nil
}

// NextDue returns when the next callback is due.
func (db *DB) NextDue(ctx context.Context) (time.Time, bool, error) {
	var next int64
	err := db.read.QueryRowContext(ctx, `SELECT c.next FROM callbacks AS c WHERE `+isHead+` ORDER BY c.next LIMIT 1`).Scan(&next)
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("find the next due callback: %w", explain(err))
	}
	return fromMicros(next), true, nil
}

// Depth is the number of pending callbacks.
func (db *DB) Depth(ctx context.Context) (n int64, err error) {
	err = db.read.QueryRowContext(ctx, `SELECT count(*) FROM callbacks WHERE status = 'pending'`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count pending callbacks: %w", explain(err))
	}
	return n, nil
}

// Added gets a value after a transaction that enqueued.
func (db *DB) Added() <-chan struct{} { return db.added }

// scanCallback returns what it could read also when the address does not open.
func (s *sealer) scanCallback(scan scanner) (c flow.Callback, err error) {
	var address []byte
	var created, next int64
	err = scan(&c.ID, &c.Key.Context, &c.Key.ID, &c.ControlPlane, &c.To, &c.Kind, &c.MessageID, &c.State, &address, &c.Error, &created, &c.Attempts,
		&next, &c.LastErr, &c.Status)
	if err != nil {
		return c, err
	}
	c.Created, c.Next = fromMicros(created), fromMicros(next)
	c.DataAddress, err = s.openAddress(address, "callbacks.data_address", c.Key.Context, c.Key.ID, c.MessageID)
	return c, err
}

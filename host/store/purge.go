package store

import (
	"context"
	"fmt"
	"time"
)

const (
	keepAnswers   = 48 * time.Hour
	keepCallbacks = 7 * 24 * time.Hour
	// purgeSize is how many rows one step of a purge deletes, so that the updates that wait behind it do not wait long.
	purgeSize = 500
)

// Purge removes answers after two days, and callbacks a week after they were enqueued, if they are no longer pending. The owner calls it
// now and then. Flows and their parts stay.
func (db *DB) Purge(ctx context.Context) error {
	now := db.clock()
	// The oldest answers have the smallest ids.
	err := db.purge(ctx, `DELETE FROM answers WHERE created < ?1 AND id IN (SELECT id FROM answers ORDER BY id LIMIT ?2)`, now.Add(-keepAnswers))
	if err != nil {
		return fmt.Errorf("purge answers: %w", err)
	}
	err = db.purge(ctx, `DELETE FROM callbacks WHERE id IN
		(SELECT id FROM callbacks WHERE status <> 'pending' AND created < ? LIMIT ?)`, now.Add(-keepCallbacks))
	if err != nil {
		return fmt.Errorf("purge callbacks: %w", err)
	}
	return nil
}

// purge repeats a statement that deletes a limited number of rows from before a time, until it finds fewer.
func (db *DB) purge(ctx context.Context, statement string, before time.Time) error {
	for {
		var n int64
		err := db.change(ctx, func(w *writer) (err error) {
			n, err = w.count(statement, micros(before), purgeSize)
			return err
		})
		if err != nil || n < purgeSize {
			return err
		}
	}
}

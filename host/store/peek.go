package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Peek lists the documents of a kind in a store that another process may have open, as Documents does. It changes nothing, and takes no
// lock. The error wraps fs.ErrNotExist if there is no store.
func Peek(ctx context.Context, o Options, kind string) ([]flow.Document, error) {
	if _, err := os.Stat(o.Path); err != nil {
		return nil, fmt.Errorf("look into store: %w", err)
	}
	sealer, err := newSealer(o.Key)
	if err != nil {
		return nil, err
	}
	read, err := sql.Open("sqlite", dsn(o.Path, "query_only(1)"))
	if err != nil {
		return nil, fmt.Errorf("look into store %s: %w", o.Path, err)
	}
	found, err := (&DB{read: read, sealer: sealer, logger: slog.New(slog.DiscardHandler)}).Documents(ctx, kind)
	return found, errors.Join(err, read.Close())
}

// ReadKey is LoadKey for a key that has to be there: the error wraps fs.ErrNotExist if it is not.
func ReadKey(path string) ([32]byte, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return [32]byte{}, fmt.Errorf("load store key: %w", err)
	}
	return LoadKey(path)
}

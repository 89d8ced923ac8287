// Package store keeps flows, parts, answers, the outbox and tokens in one SQLite file.
//
// It refuses to know what any of them means: which state may follow which, when a callback is retried, what a token allows. What
// must not be read by whoever gets hold of the file (addresses, claims, checkpoints) is sealed.
package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/token"
)

// readers is how many reads run at once.
const readers = 4

// Options say where the database is.
type Options struct {
	// Path of the file. It is made, with its folder, if it is not there. Files with the same name and the endings -wal, -shm and
	// .lock are beside it.
	Path string
	// Key seals what is secret. See LoadKey.
	Key    [32]byte
	Clock  func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: none
}

// DB is a database. All methods may be called concurrently. One process has it open at a time.
type DB struct {
	clock  func() time.Time
	logger *slog.Logger
	sealer *sealer
	lock   *lock
	read   *sql.DB
	write  *writer
	added  chan struct{}

	// Statements of the hot path, prepared on every connection that reads.
	readFlow  *sql.Stmt
	readToken *sql.Stmt

	closing sync.Once
	closed  error
}

var (
	_ flow.Store     = (*DB)(nil)
	_ flow.Outbox    = (*DB)(nil)
	_ flow.Documents = (*DB)(nil)
	_ token.Store    = (*DB)(nil)
)

// Open opens a database and brings its schema up to date. ctx is for the opening alone. The error wraps ErrInUse, ErrKey, ErrNewer,
// ErrForeign, ErrCorrupt, ErrFull or ErrReadOnly where one of them says what is wrong.
func Open(ctx context.Context, o Options) (*DB, error) {
	db, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", o.Path, explain(err))
	}
	return db, nil
}

func open(ctx context.Context, o Options) (_ *DB, err error) {
	if o.Path == "" || o.Key == [32]byte{} {
		return nil, errors.New("a path and a key are needed")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	sealer, err := newSealer(o.Key)
	if err != nil {
		return nil, err
	}
	path, err := create(o.Path)
	if err != nil {
		return nil, err
	}
	db := &DB{clock: o.Clock, logger: o.Logger, sealer: sealer, added: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if db.lock, err = acquire(path + ".lock"); err != nil {
		return nil, err
	}
	if db.write, err = openWriter(ctx, path, o.Clock); err != nil {
		return nil, err
	}
	if err := migrate(ctx, db.write.conn, migrations(), o.Clock()); err != nil {
		return nil, err
	}
	if err := checkKey(ctx, db.write.conn, db.sealer); err != nil {
		return nil, err
	}
	if err := db.write.start(ctx); err != nil {
		return nil, err
	}
	return db, db.openReaders(ctx, path)
}

// Close waits for the updates that run and closes the database. Further updates fail with ErrClosed.
func (db *DB) Close() error {
	db.closing.Do(func() {
		var errs []error
		if db.read != nil {
			errs = append(errs, db.read.Close())
		}
		if db.write != nil {
			errs = append(errs, db.write.close())
		}
		if db.lock != nil {
			errs = append(errs, db.lock.release())
		}
		db.closed = errors.Join(errs...)
	})
	return db.closed
}

// change runs fn in a transaction.
func (db *DB) change(ctx context.Context, fn func(*writer) error) error {
	result, failure := db.write.do(ctx, &job{decide: fn})
	return explain(cmp.Or(failure, result))
}

// create makes an empty file if there is none, which SQLite would make readable for others, and returns its path without symlinks,
// so that all ways to the file meet at one lock.
func create(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

func (db *DB) openReaders(ctx context.Context, path string) (err error) {
	if db.read, err = sql.Open("sqlite", dsn(path, "query_only(1)")); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	if db.readFlow, err = db.read.PrepareContext(ctx, selectFlow); err != nil {
		return err
	}
	db.readToken, err = db.read.PrepareContext(ctx, selectToken)
	return err
}

// dsn names the file in the driver's notation, with what every connection sets and some pragmas more.
func dsn(path string, pragmas ...string) string {
	q := url.Values{
		"_pragma": append([]string{"busy_timeout(5000)", "foreign_keys(1)", "synchronous(FULL)"}, pragmas...),
		"_txlock": {"immediate"},
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// micros is how a time is stored.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

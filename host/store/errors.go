package store

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// What can be wrong with a database.
var (
	ErrClosed   = errors.New("the store is closed")
	ErrInUse    = errors.New("the database is in use by another process")
	ErrKey      = errors.New("the key is not the one that sealed this database")
	ErrNewer    = errors.New("the database was written by a newer version of this program")
	ErrForeign  = errors.New("the file is the database of another program")
	ErrCorrupt  = errors.New("the database is damaged")
	ErrFull     = errors.New("the disk is full")
	ErrReadOnly = errors.New("the database cannot be written to")
)

// PanicError says that the function given to Update panicked.
type PanicError struct {
	Key   flow.Key
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("update of flow %s panicked: %v", e.Key, e.Value)
}

// failing is an error of the disk, which may pass.
type failing struct{ error }

func (f failing) Is(target error) bool { return target == flow.ErrStorage }
func (f failing) Unwrap() error        { return f.error }

// explain adds what a SQLite error means, if there is a word for it, and whether it may pass.
func explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return failing{fmt.Errorf("%w: %w", ErrFull, err)}
	case sqlite3.SQLITE_READONLY:
		return failing{fmt.Errorf("%w: %w", ErrReadOnly, err)}
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM:
		return failing{err}
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// spoils reports whether SQLite may have rolled back the transaction in which a query failed so.
func spoils(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_INTERRUPT:
		return true
	}
	return false
}

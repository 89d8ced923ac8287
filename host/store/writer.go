package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// maxBatch is how many updates share a commit at most, so that none waits long for those that came with it.
const maxBatch = 256

// writer owns the one connection that writes. What waits for it shares transactions: it runs one update after the other for as long as
// there is one that waits, then commits once and tells all. Nothing is told before the commit, not even a failure: an update sees what
// those before it in the same transaction did, and its failure may rest on that.
//
// An update decides first and writes then. One that fails while it decides has nothing to undo and fails alone. A statement that
// fails, on the other hand, is the disk's failure and not the update's; it spoils the transaction for all.
type writer struct {
	pool  *sql.DB
	conn  *sql.Conn
	clock func() time.Time

	queue   chan *job // unbuffered: an update that was taken is run
	closing chan struct{}
	done    sync.WaitGroup

	// Only the writer's goroutine uses what follows.
	statements map[string]*sql.Stmt
	flows      cache
	newest     int64 // created of the flow created last
	wrote      bool  // the update that runs has changed something
	failed     error // a statement of this transaction failed
}

// job is an update that waits.
type job struct {
	fn       func(*writer) error
	result   error // of fn
	failure  error // of the transaction; result is void
	answered chan struct{}
}

func openWriter(ctx context.Context, path string, clock func() time.Time) (*writer, error) {
	pool, err := sql.Open("sqlite", dsn(path, "journal_mode(WAL)", "journal_size_limit(67108864)", "wal_autocheckpoint(8000)", "cache_size(-32768)"))
	if err != nil {
		return nil, err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return &writer{
		pool: pool, conn: conn, clock: clock,
		queue: make(chan *job), closing: make(chan struct{}), statements: map[string]*sql.Stmt{}, flows: cache{},
	}, nil
}

// start begins to take updates.
func (w *writer) start(ctx context.Context) error {
	if err := w.conn.QueryRowContext(ctx, `SELECT coalesce(max(created), 0) FROM flows`).Scan(&w.newest); err != nil {
		return err
	}
	w.done.Go(func() {
		for {
			select {
			case j := <-w.queue:
				w.batch(j)
			case <-w.closing:
				return
			}
		}
	})
	return nil
}

func (w *writer) close() error {
	close(w.closing)
	w.done.Wait()
	var errs []error
	for _, s := range w.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.pool.Close())...)
}

// do runs fn in a transaction and returns when the transaction has ended. If failure is nil, result is what fn returned, and what fn
// wrote is durable; an fn that fails has written nothing. If ctx ends before fn's turn, fn is not run; afterwards ctx has no influence.
func (w *writer) do(ctx context.Context, fn func(*writer) error) (result, failure error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	j := &job{fn: fn, answered: make(chan struct{})}
	select {
	case w.queue <- j:
		<-j.answered
		return j.result, j.failure
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.closing:
		return nil, ErrClosed
	}
}

// batch runs first and what waits behind it in one transaction.
func (w *writer) batch(first *job) {
	var jobs []*job
	w.failed = nil
	w.exec("BEGIN IMMEDIATE")
	for j := first; j != nil; j = w.next(len(jobs)) {
		jobs = append(jobs, j)
		if w.failed == nil {
			w.run(j)
		}
		if w.failed != nil {
			break
		}
	}
	if w.failed == nil {
		w.exec("COMMIT")
	}
	failure := w.failed
	if failure != nil {
		w.exec("ROLLBACK") // SQLite may have done so already
		clear(w.flows)
	}
	for _, j := range jobs {
		j.failure = failure
		close(j.answered)
	}
}

func (w *writer) run(j *job) {
	w.wrote = false
	j.result = j.fn(w)
	if j.result != nil && w.wrote && w.failed == nil {
		w.failed = fmt.Errorf("an update failed when it had written: %w", j.result)
	}
}

// next returns an update that waits, nil if there is none or the batch is full.
func (w *writer) next(size int) *job {
	if size >= maxBatch {
		return nil
	}
	for range 2 {
		select {
		case j := <-w.queue:
			return j
		default:
			// Those that the last commit has released may be about to come back: let them.
			runtime.Gosched()
		}
	}
	return nil
}

// exec and the methods below use the writer's connection and prepare a statement when it is first used.
func (w *writer) exec(query string, args ...any) error {
	_, err := w.change(query, args...)
	return err
}

// count returns how many rows were changed.
func (w *writer) count(query string, args ...any) (int64, error) {
	r, err := w.change(query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// insert returns the id of the row that was inserted.
func (w *writer) insert(query string, args ...any) (int64, error) {
	r, err := w.change(query, args...)
	if err != nil {
		return 0, err
	}
	return r.LastInsertId()
}

// change fails the transaction if it fails.
func (w *writer) change(query string, args ...any) (r sql.Result, err error) {
	s, err := w.statement(query)
	if err == nil {
		r, err = s.Exec(args...)
	}
	w.wrote = true
	if err != nil && w.failed == nil {
		w.failed = err
	}
	return r, err
}

// one runs a query for one row. The error is that of the function returned.
func (w *writer) one(query string, args ...any) scanner {
	s, err := w.statement(query)
	if err != nil {
		return func(...any) error { return err }
	}
	return func(dest ...any) error {
		err := s.QueryRow(args...).Scan(dest...)
		if spoils(err) && w.failed == nil {
			w.failed = err
		}
		return err
	}
}

func (w *writer) statement(query string) (*sql.Stmt, error) {
	if s := w.statements[query]; s != nil {
		return s, nil
	}
	s, err := w.conn.PrepareContext(context.Background(), query)
	if err == nil {
		w.statements[query] = s
	}
	return s, err
}

// scanner is the Scan method of a row.
type scanner = func(dest ...any) error

// protect turns a panic of fn into an error.
func protect(key flow.Key, fn func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover()
		if p == nil {
			panic(fmt.Sprintf("update of flow %s ended the goroutine of the store", key)) // runtime.Goexit cannot be undone
		}
		err = &PanicError{Key: key, Value: p, Stack: debug.Stack()}
	}()
	err = fn()
	returned = true
	return err
}

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
// An update decides, prepares and writes. It prepares on its caller's goroutine while the writer goes on to the next, or on the
// writer's if that needs it first. So it writes later; but before another update of the same flow decides, so that each sees what
// those before it did. One that fails before it writes has nothing to undo and fails alone. A statement that fails, on the other hand,
// is the disk's failure and not the update's; it spoils the transaction for all.
type writer struct {
	pool  *sql.DB
	conn  *sql.Conn
	clock func() time.Time
	fresh fresh

	queue   chan *job // unbuffered: an update that was taken is run
	closing chan struct{}
	done    sync.WaitGroup

	// Only the writer's goroutine uses what follows.
	statements map[string]*sql.Stmt
	flows      cache
	newest     int64 // created of the flow created last
	wrote      bool  // the update that runs has changed something
	failed     error // a statement of this transaction failed

	unwritten []*job                // have decided, in order
	touched   map[flow.Key]struct{} // the flows of unwritten
}

// job is an update that waits.
type job struct {
	key     flow.Key            // the flow that it reads and writes
	decide  func(*writer) error // also writes, if there is no write
	prepare func() error
	write   func() error

	once    sync.Once // guards the call of prepare
	result  error     // of the functions
	failure error     // of the transaction; result is void

	decided, answered chan struct{}
}

// ready prepares, or waits for the one who does.
func (j *job) ready() {
	j.once.Do(func() {
		if j.result == nil && j.prepare != nil {
			j.result = j.prepare()
		}
	})
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
		touched: map[flow.Key]struct{}{},
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

// do runs a job in a transaction and returns when the transaction has ended. If failure is nil, result is what the job's functions
// returned, and what they wrote is durable; a job that fails has written nothing. If ctx ends before the job's turn, it is not run;
// afterwards ctx has no influence.
func (w *writer) do(ctx context.Context, j *job) (result, failure error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	j.decided, j.answered = make(chan struct{}), make(chan struct{})
	select {
	case w.queue <- j:
		<-j.decided
		j.ready()
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
		w.run(j)
		if w.failed != nil {
			break
		}
	}
	w.flush()
	if w.failed == nil {
		w.fresh.commit(jobs, func() { w.exec("COMMIT") })
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

// run lets a job decide. What it writes waits for flush.
func (w *writer) run(j *job) {
	defer close(j.decided)
	if _, ok := w.touched[j.key]; ok || j.write == nil {
		w.flush()
	}
	if w.failed != nil {
		return
	}
	w.wrote = false
	j.result = j.decide(w)
	w.check(j.result)
	if j.result == nil && j.write != nil {
		w.unwritten = append(w.unwritten, j)
		w.touched[j.key] = struct{}{}
	}
}

// flush writes what was decided.
func (w *writer) flush() {
	for _, j := range w.unwritten {
		j.ready()
		if j.result != nil || w.failed != nil {
			continue
		}
		w.wrote = false
		j.result = j.write()
		w.check(j.result)
	}
	clear(w.unwritten)
	w.unwritten = w.unwritten[:0]
	clear(w.touched)
}

// check fails the transaction if an update has failed after it had written. What the update says of its own flow is none of the business
// of those that share the transaction.
func (w *writer) check(result error) {
	if result != nil && w.wrote && w.failed == nil {
		w.failed = failing{fmt.Errorf("another update failed when it had written: %v", result)}
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
			w.flush()
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

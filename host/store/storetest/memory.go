// Package storetest has a store in memory for tests of whoever uses flow.Store and flow.Outbox, and the suite that every store
// passes, that one included.
package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Store is what the suite tests: flows with their outbox.
type Store interface {
	flow.Store
	flow.Outbox
}

// Memory is a Store that forgets everything when the test ends. Its clock is time.Now, so it keeps the time of a synctest bubble.
// Everything that goes in or out is copied.
type Memory struct {
	added chan struct{}

	mu      sync.Mutex // guards what follows
	records map[flow.Key]*record
	newest  time.Time // Created of the flow created last
	lastID  int64     // of a callback
	broken  error
}

var _ Store = (*Memory)(nil)

// record is everything about one flow.
type record struct {
	flow      *flow.Flow // nil until Put
	parts     map[partKey]flow.Part
	answers   map[string]flow.Answer
	callbacks []flow.Callback
}

// partKey is what tells the parts of a flow apart.
type partKey struct {
	response bool
	name     string
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{added: make(chan struct{}, 1), records: map[flow.Key]*record{}}
}

// Break lets every call fail with err, as a full disk would, until Break(nil).
func (m *Memory) Break(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// Update runs fn on a copy of what the flow has, and keeps the copy if fn returns nil.
func (m *Memory) Update(ctx context.Context, key flow.Key, fn func(flow.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return fmt.Errorf("update flow %s: %w", key, err)
	}
	tx := &memoryTx{m: m, key: key, now: micro(time.Now()), record: m.records[key].clone(), newest: m.newest, lastID: m.lastID}
	if err := tx.run(fn); err != nil {
		return err
	}
	m.records[key], m.newest, m.lastID = tx.record, tx.newest, tx.lastID
	if tx.enqueued {
		select {
		case m.added <- struct{}{}:
		default:
		}
	}
	return nil
}

// Flow returns a flow.
func (m *Memory) Flow(ctx context.Context, key flow.Key) (*flow.Flow, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, fmt.Errorf("read flow %s: %w", key, err)
	}
	if r := m.records[key]; r != nil && r.flow != nil {
		return deepCopy(r.flow), nil
	}
	return nil, flow.ErrNotFound
}

// View returns a flow as it is kept: whoever changes it has the next reader see that.
func (m *Memory) View(ctx context.Context, key flow.Key) (*flow.Flow, error) {
	if _, err := m.Flow(ctx, key); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[key].flow, nil
}

// Flows lists flows, newest first.
func (m *Memory) Flows(ctx context.Context, filter flow.Filter) ([]*flow.Flow, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, fmt.Errorf("list flows: %w", err)
	}
	var found []*flow.Flow
	for _, r := range m.records {
		if r.flow != nil && matches(filter, r.flow) {
			found = append(found, deepCopy(r.flow))
		}
	}
	slices.SortFunc(found, func(a, b *flow.Flow) int { return b.Created.Compare(a.Created) })
	limit := filter.Limit
	if limit <= 0 {
		limit = 1000
	}
	return found[:min(limit, len(found))], nil
}

// Count returns the number of flows in each state.
func (m *Memory) Count(ctx context.Context) (map[flow.State]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, fmt.Errorf("count flows: %w", err)
	}
	counts := map[flow.State]int64{}
	for _, s := range flow.States() {
		counts[s] = 0
	}
	for _, r := range m.records {
		if r.flow != nil {
			counts[r.flow.State]++
		}
	}
	return counts, nil
}

// Parts lists the parts of a flow by index.
func (m *Memory) Parts(ctx context.Context, key flow.Key, from uint64, limit int) ([]flow.Part, error) {
	return m.list(ctx, key, false, from, limit)
}

// ResponseParts lists what came on the response channel of a flow by index.
func (m *Memory) ResponseParts(ctx context.Context, key flow.Key, from uint64, limit int) ([]flow.Part, error) {
	return m.list(ctx, key, true, from, limit)
}

func (m *Memory) list(ctx context.Context, key flow.Key, response bool, from uint64, limit int) ([]flow.Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, fmt.Errorf("list parts of flow %s: %w", key, err)
	}
	var found []flow.Part
	if r := m.records[key]; r != nil {
		for _, p := range r.parts {
			if p.Response == response && p.Index >= from {
				found = append(found, deepCopy(p))
			}
		}
	}
	slices.SortFunc(found, func(a, b flow.Part) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Name, b.Name))
	})
	return found[:min(max(limit, 0), len(found))], nil
}

// Callbacks lists what the outbox holds for a flow.
func (m *Memory) Callbacks(ctx context.Context, key flow.Key) ([]flow.Callback, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, fmt.Errorf("list callbacks of flow %s: %w", key, err)
	}
	var found []flow.Callback
	if r := m.records[key]; r != nil {
		for _, c := range r.callbacks {
			found = append(found, deepCopy(c))
		}
	}
	return found, nil
}

// Due returns callbacks to deliver now.
func (m *Memory) Due(ctx context.Context, now time.Time, limit int) ([]flow.Callback, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, fmt.Errorf("find due callbacks: %w", err)
	}
	heads := m.heads()
	due := slices.IndexFunc(heads, func(c flow.Callback) bool { return c.Next.After(now) })
	if due < 0 {
		due = len(heads)
	}
	return heads[:min(due, max(limit, 0))], nil
}

// Settle records the outcome of an attempt.
func (m *Memory) Settle(ctx context.Context, c flow.Callback) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return fmt.Errorf("settle callback %d: %w", c.ID, err)
	}
	for _, r := range m.records {
		for i := range r.callbacks {
			if stored := &r.callbacks[i]; stored.ID == c.ID {
				if stored.Status == flow.CallbackPending {
					stored.Status, stored.Attempts, stored.Next, stored.LastErr = c.Status, c.Attempts, micro(c.Next), c.LastErr
				}
				return nil
			}
		}
	}
	return fmt.Errorf("settle callback %d: no such callback", c.ID)
}

// NextDue returns when the next callback is due.
func (m *Memory) NextDue(ctx context.Context) (time.Time, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return time.Time{}, false, fmt.Errorf("find the next due callback: %w", err)
	}
	heads := m.heads()
	if len(heads) == 0 {
		return time.Time{}, false, nil
	}
	return heads[0].Next, true, nil
}

// Depth is the number of pending callbacks.
func (m *Memory) Depth(ctx context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return 0, fmt.Errorf("count pending callbacks: %w", err)
	}
	var n int64
	for _, r := range m.records {
		for _, c := range r.callbacks {
			if c.Status == flow.CallbackPending {
				n++
			}
		}
	}
	return n, nil
}

// Added gets a value after a transaction that enqueued.
func (m *Memory) Added() <-chan struct{} { return m.added }

// usable is called with mu held.
func (m *Memory) usable(ctx context.Context) error {
	return cmp.Or(ctx.Err(), m.broken)
}

// heads returns the first pending callback of every flow, in the order in which they are due. It is called with mu held.
func (m *Memory) heads() []flow.Callback {
	var heads []flow.Callback
	for _, r := range m.records {
		i := slices.IndexFunc(r.callbacks, func(c flow.Callback) bool { return c.Status == flow.CallbackPending })
		if i >= 0 {
			heads = append(heads, deepCopy(r.callbacks[i]))
		}
	}
	slices.SortFunc(heads, func(a, b flow.Callback) int {
		return cmp.Or(a.Next.Compare(b.Next), cmp.Compare(a.ID, b.ID))
	})
	return heads
}

func matches(filter flow.Filter, f *flow.Flow) bool {
	return (filter.Context == "" || filter.Context == f.Context) &&
		(filter.States == nil || slices.Contains(filter.States, f.State)) &&
		(!filter.Leftover || f.Leftover) &&
		(filter.Before.IsZero() || f.Created.Before(filter.Before))
}

// memoryTx is one transaction. Its record is the transaction's own copy.
type memoryTx struct {
	m        *Memory
	key      flow.Key
	now      time.Time
	record   *record
	newest   time.Time
	lastID   int64
	enqueued bool
	failed   error
	done     bool
}

var errTxDone = errors.New("the transaction has ended")

// run calls fn. A call through tx that failed fails the transaction, whatever fn makes of it; so does a panic.
func (tx *memoryTx) run(fn func(flow.Tx) error) (err error) {
	defer func() {
		tx.done = true
		if p := recover(); p != nil {
			err = fmt.Errorf("update of flow %s panicked: %v", tx.key, p)
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.failed
}

func (tx *memoryTx) Now() time.Time { return tx.now }

func (tx *memoryTx) Flow() (*flow.Flow, error) {
	if tx.done {
		return nil, errTxDone
	}
	if tx.record.flow == nil {
		return nil, flow.ErrNotFound
	}
	return deepCopy(tx.record.flow), nil
}

func (tx *memoryTx) Put(f *flow.Flow) error {
	if err := tx.writes(f.Key); err != nil {
		return err
	}
	f.Key, f.Updated = tx.key, tx.now
	if stored := tx.record.flow; stored != nil {
		f.Created = stored.Created
	} else {
		f.Created = tx.now
		if !f.Created.After(tx.newest) {
			f.Created = tx.newest.Add(time.Microsecond)
		}
		tx.newest = f.Created
	}
	tx.record.flow = deepCopy(f)
	tx.record.flow.Waiting, tx.record.flow.Redelivery = "", false // for memory only
	return nil
}

func (tx *memoryTx) Answer(messageID string) (flow.Answer, bool, error) {
	if tx.done {
		return flow.Answer{}, false, errTxDone
	}
	a, ok := tx.record.answers[messageID]
	return deepCopy(a), ok, nil
}

func (tx *memoryTx) PutAnswer(messageID string, a flow.Answer) error {
	if err := tx.belongs(); err != nil {
		return err
	}
	tx.record.answers[messageID] = deepCopy(a)
	return nil
}

func (tx *memoryTx) AddPart(p flow.Part) (bool, error) {
	if err := tx.belongs(); err != nil {
		return false, err
	}
	if p.Index > math.MaxInt64 {
		return false, tx.fail(fmt.Errorf("add part %q: index %d is too large", p.Name, p.Index))
	}
	k := partKey{p.Response, p.Name}
	_, replaced := tx.record.parts[k]
	p.Finished = micro(p.Finished)
	tx.record.parts[k] = deepCopy(p)
	return replaced, nil
}

func (tx *memoryTx) Part(name string) (flow.Part, bool, error) { return tx.part(partKey{false, name}) }

func (tx *memoryTx) ResponsePart(name string) (flow.Part, bool, error) {
	return tx.part(partKey{true, name})
}

func (tx *memoryTx) part(k partKey) (flow.Part, bool, error) {
	if tx.done {
		return flow.Part{}, false, errTxDone
	}
	p, ok := tx.record.parts[k]
	return deepCopy(p), ok, nil
}

func (tx *memoryTx) Enqueue(c flow.Callback) error {
	if err := tx.writes(c.Key); err != nil {
		return err
	}
	if err := tx.belongs(); err != nil {
		return err
	}
	tx.lastID++
	c.ID, c.Key, c.Created, c.Status, c.Attempts, c.LastErr = tx.lastID, tx.key, tx.now, flow.CallbackPending, 0, ""
	if c.Next.IsZero() {
		c.Next = tx.now
	}
	c.Next = micro(c.Next)
	tx.record.callbacks = append(tx.record.callbacks, deepCopy(c))
	tx.enqueued = true
	return nil
}

func (tx *memoryTx) CancelCallbacks() error {
	if err := tx.writes(tx.key); err != nil {
		return err
	}
	for i := range tx.record.callbacks {
		if c := &tx.record.callbacks[i]; c.Status == flow.CallbackPending || c.Status == flow.CallbackFailed {
			c.Status = flow.CallbackCancelled
		}
	}
	return nil
}

func (tx *memoryTx) RetryCallbacks() (n int, err error) {
	if err := tx.writes(tx.key); err != nil {
		return 0, err
	}
	for i := range tx.record.callbacks {
		if c := &tx.record.callbacks[i]; c.Status == flow.CallbackFailed {
			c.Status, c.Attempts, c.LastErr, c.Created, c.Next = flow.CallbackPending, 0, "", tx.now, tx.now
			n++
		}
	}
	tx.enqueued = tx.enqueued || n > 0
	return n, nil
}

// writes says whether the transaction takes something with that key. The zero key stands for the transaction's own.
func (tx *memoryTx) writes(key flow.Key) error {
	if tx.done {
		return errTxDone
	}
	if key != (flow.Key{}) && key != tx.key {
		return tx.fail(fmt.Errorf("a transaction for flow %s cannot write to flow %s", tx.key, key))
	}
	return nil
}

// belongs says whether there is a flow for something that belongs to one.
func (tx *memoryTx) belongs() error {
	if tx.done {
		return errTxDone
	}
	if tx.record.flow == nil {
		return tx.fail(flow.ErrNotFound)
	}
	return nil
}

func (tx *memoryTx) fail(err error) error {
	tx.failed = cmp.Or(tx.failed, err)
	return err
}

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Update runs fn in a transaction that it may share with other updates. fn runs on a goroutine of the store, which it must not end with
// runtime.Goexit; a panic comes back as a *PanicError.
func (db *DB) Update(ctx context.Context, key flow.Key, fn func(flow.Tx) error) error {
	t := &tx{sealer: db.sealer, key: key, fn: fn}
	result, failure := db.write.do(ctx, &job{key: key, decide: t.decide, prepare: t.prepare, write: t.write})
	if failure != nil {
		return fmt.Errorf("update flow %s: %w", key, explain(failure))
	}
	if result == nil && t.enqueued {
		db.announce()
	}
	return result
}

// announce says that the outbox has grown.
func (db *DB) announce() {
	select {
	case db.added <- struct{}{}:
	default:
	}
}

// tx is one update's turn in a transaction of the writer. What fn writes is collected, encoded and sealed by prepare, and written by
// write when fn has returned nil: an update that fails has nothing to undo.
type tx struct {
	w       *writer
	sealer  *sealer
	fn      func(flow.Tx) error
	key     flow.Key
	now     time.Time
	id      int64 // of the flow's row; 0 if not known
	created int64 // of the flow, if id is known
	err     error // the first failure: after it nothing works

	prepares []func() error
	writes   []func() error
	enqueued bool
	// What was put here, for those who read it again.
	flow    *flow.Flow
	answers map[string]flow.Answer
	parts   map[partKey]flow.Part
}

// partKey is what tells the parts of a flow apart.
type partKey struct {
	response bool
	name     string
}

var errTxDone = errors.New("the transaction has ended")

// decide calls fn. A call through tx that failed fails the update, whatever fn makes of it.
func (t *tx) decide(w *writer) error {
	t.w, t.now = w, w.clock().UTC().Truncate(time.Microsecond)
	err := protect(t.key, func() error { return t.fn(t) })
	if err == nil {
		err = t.err
	}
	t.err = errTxDone
	return err
}

// prepare encodes and seals. It uses nothing of the writer.
func (t *tx) prepare() error {
	return protect(t.key, func() error { return each(t.prepares) })
}

func (t *tx) write() error { return each(t.writes) }

// later keeps what is to be done when fn has returned.
func (t *tx) later(prepare, write func() error) {
	t.prepares = append(t.prepares, prepare)
	t.writes = append(t.writes, write)
}

// each calls functions until one fails.
func each(fns []func() error) error {
	for _, fn := range fns {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}

// fail remembers a failure.
func (t *tx) fail(what string, err error) error {
	if t.err == nil {
		t.err = fmt.Errorf("%s: %w", what, explain(err))
	}
	return t.err
}

// own refuses what belongs to another flow. The zero key stands for the transaction's.
func (t *tx) own(key flow.Key) error {
	if t.err == nil && key != (flow.Key{}) && key != t.key {
		return t.fail("write", fmt.Errorf("a transaction for flow %s cannot write to flow %s", t.key, key))
	}
	return t.err
}

// find looks for the flow's row. The error is flow.ErrNotFound if there is no flow; it is no failure yet.
func (t *tx) find() error {
	if t.err != nil || t.id != 0 || t.flow != nil {
		return t.err
	}
	if known, ok := t.w.flows[t.key]; ok {
		t.id, t.created = known.id, micros(known.flow.Created)
		return nil
	}
	err := t.w.one(`SELECT id, created FROM flows WHERE context = ? AND flow_id = ?`, t.key.Context, t.key.ID)(&t.id, &t.created)
	if errors.Is(err, sql.ErrNoRows) {
		return flow.ErrNotFound
	}
	if err != nil {
		return t.fail("find flow "+t.key.String(), err)
	}
	return nil
}

func (t *tx) Now() time.Time { return t.now }

func (t *tx) Flow() (*flow.Flow, error) {
	if err := t.find(); err != nil {
		return nil, err
	}
	if t.flow != nil {
		return clone(t.flow), nil
	}
	if known, ok := t.w.flows[t.key]; ok {
		return clone(known.flow), nil
	}
	f, err := t.sealer.scanFlow(t.w.one(selectFlow, t.key.Context, t.key.ID))
	if err != nil {
		return nil, t.fail("read flow "+t.key.String(), err)
	}
	t.w.flows.put(t.id, clone(f))
	return f, nil
}

func (t *tx) Put(f *flow.Flow) error {
	if err := t.own(f.Key); err != nil {
		return err
	}
	err := t.find()
	if t.err != nil {
		return t.err
	}
	if errors.Is(err, flow.ErrNotFound) {
		t.created = max(micros(t.now), t.w.newest+1)
		t.w.newest = t.created
	}
	f.Key, f.Created, f.Updated = t.key, fromMicros(t.created), t.now
	put := clone(f)
	put.Waiting, put.Redelivery = "", false // for memory only
	t.flow = put
	var content []byte
	t.later(func() (err error) {
		if content, err = t.sealer.sealFlow(put); err != nil {
			return fmt.Errorf("put flow %s: %w", t.key, err)
		}
		return nil
	}, func() error {
		return t.put(put, content)
	})
	return nil
}

func (t *tx) put(f *flow.Flow, content []byte) error {
	state, updated := string(f.State), micros(t.now)
	var err error
	if t.id != 0 {
		err = t.w.exec(`UPDATE flows SET state = ?, updated = ?, content = ?, leftover = ? WHERE id = ?`, state, updated, content, f.Leftover, t.id)
	} else {
		t.id, err = t.w.insert(`INSERT INTO flows (context, flow_id, state, created, updated, content, leftover) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			t.key.Context, t.key.ID, state, t.created, updated, content, f.Leftover)
	}
	if err == nil && f.State.Final() {
		err = t.w.exec(`DELETE FROM uploads WHERE flow = ?`, t.id)
	}
	if err != nil {
		return fmt.Errorf("put flow %s: %w", t.key, err)
	}
	t.w.flows.put(t.id, f)
	return nil
}

func (t *tx) Answer(messageID string) (flow.Answer, bool, error) {
	if err := t.find(); err != nil {
		return flow.Answer{}, false, absent(err)
	}
	if a, ok := t.answers[messageID]; ok {
		return cloneAnswer(a), true, nil
	}
	var a flow.Answer
	var address []byte
	scan := t.w.one(selectAnswer, t.id, messageKey(messageID), messageID)
	err := scan(&a.Operation, &a.Body, &a.State, &a.Refused, &address)
	if errors.Is(err, sql.ErrNoRows) {
		return flow.Answer{}, false, nil
	}
	if err == nil {
		a.DataAddress, err = t.sealer.openAddress(address, "answers.data_address", t.key.Context, t.key.ID, messageID)
	}
	if err != nil {
		return flow.Answer{}, false, t.fail("read answer", err)
	}
	return a, true, nil
}

const (
	selectAnswer = `SELECT operation, body, state, refused, data_address FROM answers WHERE flow = ? AND message_key = ? AND message_id = ?`
	insertAnswer = `INSERT INTO answers (flow, message_key, message_id, operation, body, state, refused, data_address, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
	deleteAnswer = `DELETE FROM answers WHERE flow = ? AND message_key = ?`
)

// messageKey stands for a message id in the index. Whoever finds two ids of one flow with the same key makes the later answer replace
// the earlier; neither is ever taken for the other.
func messageKey(messageID string) int64 {
	sum := sha256.Sum256([]byte(messageID))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

func (t *tx) PutAnswer(messageID string, a flow.Answer) error {
	if err := t.find(); err != nil {
		return t.fail("put answer", err)
	}
	if t.answers == nil {
		t.answers = map[string]flow.Answer{}
	}
	a = cloneAnswer(a)
	t.answers[messageID] = a
	var key int64
	var address []byte
	t.later(func() (err error) {
		key = messageKey(messageID)
		address, err = t.sealer.sealAddress(a.DataAddress, "answers.data_address", t.key.Context, t.key.ID, messageID)
		if err != nil {
			return fmt.Errorf("put answer: %w", err)
		}
		return nil
	}, func() error {
		values := []any{t.id, key, messageID, a.Operation, a.Body, string(a.State), a.Refused, address, micros(t.now)}
		n, err := t.w.count(insertAnswer, values...)
		if err != nil || n > 0 {
			return err
		}
		// Replacing is rare. The row gets a new id, and so the place in the table that its age demands.
		if err := t.w.exec(deleteAnswer, t.id, key); err != nil {
			return err
		}
		return t.w.exec(insertAnswer, values...)
	})
	return nil
}

func (t *tx) AddPart(p flow.Part) (replaced bool, err error) {
	if err := t.find(); err != nil {
		return false, t.fail("add part", err)
	}
	if p.Index > math.MaxInt64 {
		return false, t.fail("add part", fmt.Errorf("index %d of part %q is too large", p.Index, p.Name))
	}
	k := partKey{p.Response, p.Name}
	if _, replaced, err = t.part(k); err != nil {
		return false, err
	}
	p.Digests, p.Finished = maps.Clone(p.Digests), fromMicros(micros(p.Finished))
	if t.parts == nil {
		t.parts = map[partKey]flow.Part{}
	}
	t.parts[k] = p
	var digests []byte
	t.later(func() (err error) {
		if digests, err = json.Marshal(p.Digests); err != nil {
			return fmt.Errorf("add part: %w", err)
		}
		return nil
	}, func() error {
		return t.w.exec(`INSERT OR REPLACE INTO `+partTable(p.Response)+` (flow, name, idx, size, records, digests, location, finished)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, t.id, p.Name, int64(p.Index), p.Size, p.Records, string(digests), p.Location, micros(p.Finished))
	})
	return replaced, nil
}

func (t *tx) Part(name string) (flow.Part, bool, error) { return t.part(partKey{false, name}) }

func (t *tx) ResponsePart(name string) (flow.Part, bool, error) { return t.part(partKey{true, name}) }

func (t *tx) part(k partKey) (flow.Part, bool, error) {
	if err := t.find(); err != nil {
		return flow.Part{}, false, absent(err)
	}
	if p, ok := t.parts[k]; ok {
		p.Digests = maps.Clone(p.Digests)
		return p, true, nil
	}
	p, err := scanPart(t.w.one(`SELECT `+partColumns+` FROM `+partTable(k.response)+` WHERE flow = ? AND name = ?`, t.id, k.name))
	if errors.Is(err, sql.ErrNoRows) {
		return flow.Part{}, false, nil
	}
	if err != nil {
		return flow.Part{}, false, t.fail("read part", err)
	}
	p.Response = k.response
	return p, true, nil
}

func (t *tx) Enqueue(c flow.Callback) error {
	if err := t.own(c.Key); err != nil {
		return err
	}
	if err := t.find(); err != nil {
		return t.fail("enqueue callback", err)
	}
	if c.Next.IsZero() {
		c.Next = t.now
	}
	c.DataAddress = cloneAddress(c.DataAddress)
	t.enqueued = true
	var address []byte
	t.later(func() (err error) {
		address, err = t.sealer.sealAddress(c.DataAddress, "callbacks.data_address", t.key.Context, t.key.ID, c.MessageID)
		if err != nil {
			return fmt.Errorf("enqueue callback: %w", err)
		}
		return nil
	}, func() error {
		return t.w.exec(`INSERT INTO callbacks
			(flow, control_plane, send_to, kind, message_id, state, data_address, error, created, attempts, next, last_error, status)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, '', 'pending')`,
			t.id, c.ControlPlane, c.To, string(c.Kind), c.MessageID, string(c.State), address, c.Error, micros(t.now), micros(c.Next))
	})
	return nil
}

func (t *tx) CancelCallbacks() error {
	if err := t.find(); err != nil {
		return absent(err)
	}
	t.later(nothing, func() error {
		return t.w.exec(`UPDATE callbacks SET status = 'cancelled' WHERE flow = ? AND status IN ('pending', 'failed')`, t.id)
	})
	return nil
}

func (t *tx) RetryCallbacks() (n int, err error) {
	if err := t.find(); err != nil {
		return 0, absent(err)
	}
	if err := t.w.one(`SELECT count(*) FROM callbacks WHERE flow = ? AND status = 'failed'`, t.id)(&n); err != nil {
		return 0, t.fail("count callbacks that were given up", err)
	}
	if n == 0 {
		return 0, nil
	}
	t.enqueued = true
	t.later(nothing, func() error {
		return t.w.exec(`UPDATE callbacks SET status = 'pending', attempts = 0, last_error = '', created = ?1, next = ?1
			WHERE flow = ?2 AND status = 'failed'`, micros(t.now), t.id)
	})
	return n, nil
}

// nothing is what a write without content has to prepare.
func nothing() error { return nil }

// absent is for what a flow that is not there does not have: that is no error.
func absent(err error) error {
	if errors.Is(err, flow.ErrNotFound) {
		return nil
	}
	return err
}

func cloneAnswer(a flow.Answer) flow.Answer {
	a.Body, a.DataAddress = bytes.Clone(a.Body), cloneAddress(a.DataAddress)
	return a
}

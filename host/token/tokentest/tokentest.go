// Package tokentest has a token.Store in memory, and the suite that every token.Store passes, that one included.
package tokentest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/token"
)

// Memory is a token.Store that forgets everything when the test ends.
type Memory struct {
	mu      sync.Mutex // guards what follows
	records map[string]token.Record
	broken  error
}

var _ token.Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{records: map[string]token.Record{}} }

// Break lets every call fail with err until Break(nil).
func (m *Memory) Break(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// ReplaceTokens revokes all tokens of r.Flow and records r.
func (m *Memory) ReplaceTokens(ctx context.Context, r token.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	if _, ok := m.records[r.ID]; ok {
		return fmt.Errorf("token %s was recorded before", r.ID)
	}
	m.revoke(r.Flow)
	m.records[r.ID] = r
	return nil
}

// RevokeTokens revokes all tokens of a flow.
func (m *Memory) RevokeTokens(ctx context.Context, f token.Flow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	m.revoke(f)
	return nil
}

// Token returns a record.
func (m *Memory) Token(ctx context.Context, id string) (token.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return token.Record{}, err
	}
	r, ok := m.records[id]
	if !ok {
		return token.Record{}, token.ErrUnknown
	}
	return r, nil
}

// PurgeTokens removes what expired before a time.
func (m *Memory) PurgeTokens(ctx context.Context, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	for id, r := range m.records {
		if r.Expires.Before(before) {
			delete(m.records, id)
		}
	}
	return nil
}

// usable is called with mu held.
func (m *Memory) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.broken
}

// revoke is called with mu held.
func (m *Memory) revoke(f token.Flow) {
	for id, r := range m.records {
		if r.Flow == f {
			r.Revoked = true
			m.records[id] = r
		}
	}
}

// TestStore tests that a store does what token.Store says. open returns an empty store that lives as long as the test.
func TestStore(t *testing.T, open func(t *testing.T) token.Store) {
	for _, tc := range []struct {
		name string
		test func(t *testing.T, s token.Store)
	}{
		{"a record comes back as it was put", testRecord},
		{"a new token revokes those of its flow", testReplace},
		{"a refused record revokes nothing", testRefused},
		{"revocation reaches one flow", testRevoke},
		{"purge removes what has expired", testPurge},
		{"a cancelled call changes nothing", testCancelled},
		{"of tokens issued at once one is good", testConcurrent},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

var expires = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func record(id, flow string) token.Record {
	return token.Record{ID: id, Flow: token.Flow{Context: "default", ID: flow}, Access: token.Read, Expires: expires}
}

func testRecord(t *testing.T, s token.Store) {
	want := record("1", "f")
	want.Access = token.Write
	replace(t, s, want)
	got, err := s.Token(t.Context(), "1")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := s.Token(t.Context(), "2"); !errors.Is(err, token.ErrUnknown) {
		t.Errorf("a token that is not there: %v, want ErrUnknown", err)
	}
}

func testReplace(t *testing.T, s token.Store) {
	other := record("other", "f")
	other.Flow.Context = "other"
	for _, r := range []token.Record{record("1", "f"), other, record("2", "f"), record("3", "g")} {
		replace(t, s, r)
	}
	check(t, s, map[string]bool{"1": true, "other": false, "2": false, "3": false})
}

func testRefused(t *testing.T, s token.Store) {
	replace(t, s, record("1", "f"))
	replace(t, s, record("2", "g"))
	if err := s.ReplaceTokens(t.Context(), record("1", "g")); err == nil {
		t.Error("an id was recorded twice")
	}
	check(t, s, map[string]bool{"1": false, "2": false})
}

func testRevoke(t *testing.T, s token.Store) {
	replace(t, s, record("1", "f"))
	replace(t, s, record("2", "g"))
	for range 2 {
		revoke(t, s, "f")
	}
	revoke(t, s, "never")
	check(t, s, map[string]bool{"1": true, "2": false})
}

func testPurge(t *testing.T, s token.Store) {
	late := record("late", "g")
	late.Expires = expires.Add(time.Second)
	replace(t, s, record("1", "f"))
	replace(t, s, record("2", "f"))
	replace(t, s, late)
	purge(t, s, expires)
	check(t, s, map[string]bool{"1": true, "2": false, "late": false})
	purge(t, s, expires.Add(time.Second))
	check(t, s, map[string]bool{"late": false})
	for _, id := range []string{"1", "2"} {
		if _, err := s.Token(t.Context(), id); !errors.Is(err, token.ErrUnknown) {
			t.Errorf("token %s after the purge: %v", id, err)
		}
	}
}

func testCancelled(t *testing.T, s token.Store) {
	replace(t, s, record("1", "f"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, err := range map[string]error{
		"ReplaceTokens": s.ReplaceTokens(ctx, record("2", "f")),
		"RevokeTokens":  s.RevokeTokens(ctx, record("1", "f").Flow),
		"PurgeTokens":   s.PurgeTokens(ctx, expires.Add(time.Hour)),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", call, err)
		}
	}
	check(t, s, map[string]bool{"1": false})
}

func testConcurrent(t *testing.T, s token.Store) {
	const n = 16
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := s.ReplaceTokens(t.Context(), record(fmt.Sprint(i), "f")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	good := 0
	for i := range n {
		r, err := s.Token(t.Context(), fmt.Sprint(i))
		if err != nil {
			t.Error(err)
		}
		if !r.Revoked {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d tokens of one flow are good", good)
	}
}

func replace(t *testing.T, s token.Store, r token.Record) {
	t.Helper()
	if err := s.ReplaceTokens(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func revoke(t *testing.T, s token.Store, flow string) {
	t.Helper()
	if err := s.RevokeTokens(t.Context(), record("", flow).Flow); err != nil {
		t.Fatal(err)
	}
}

func purge(t *testing.T, s token.Store, before time.Time) {
	t.Helper()
	if err := s.PurgeTokens(t.Context(), before); err != nil {
		t.Fatal(err)
	}
}

// check compares which of some tokens are revoked.
func check(t *testing.T, s token.Store, revoked map[string]bool) {
	t.Helper()
	for id, want := range revoked {
		r, err := s.Token(t.Context(), id)
		if err != nil || r.Revoked != want {
			t.Errorf("token %s: revoked %v, %v; want %v", id, r.Revoked, err, want)
		}
	}
}

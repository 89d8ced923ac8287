// Package tokentest has a token.Store in memory, and the suite that every token.Store passes, that one included.
package tokentest

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/token"
)

// Memory is a token.Store that forgets everything when the test ends.
type Memory struct {
	mu       sync.Mutex // guards what follows
	records  map[string]token.Record
	families map[string]token.Family
	broken   error
}

var _ token.Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{records: map[string]token.Record{}, families: map[string]token.Family{}}
}

// Break lets every call fail with err until Break(nil).
func (m *Memory) Break(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// ReplaceTokens revokes the tokens of a flow with an access and records a new one.
func (m *Memory) ReplaceTokens(ctx context.Context, f token.Family) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx, f.Current.ID); err != nil {
		return err
	}
	m.drop(f.Current.Flow, f.Current.Access)
	m.records[f.Current.ID] = f.Current
	if f.ID != "" {
		m.families[f.ID] = f
	}
	return nil
}

// RenewTokens moves a family to its next generation.
func (m *Memory) RenewTokens(ctx context.Context, f token.Family) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx, f.Current.ID); err != nil {
		return err
	}
	if before, ok := m.families[f.ID]; !ok || before.Generation+1 != f.Generation {
		return token.ErrStale
	}
	m.revoke(f.Current.Flow, f.Current.Access, f.Previous)
	m.records[f.Current.ID] = f.Current
	m.families[f.ID] = f
	return nil
}

// UseToken says that a token was used.
func (m *Memory) UseToken(ctx context.Context, flow token.Flow, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx, ""); err != nil {
		return err
	}
	for _, f := range m.families {
		if f.Current.Flow == flow && f.Current.ID == id {
			f.Current.Unused = false
			m.families[f.ID] = f
		}
	}
	return nil
}

// RevokeTokens revokes all tokens of a flow.
func (m *Memory) RevokeTokens(ctx context.Context, f token.Flow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx, ""); err != nil {
		return err
	}
	m.drop(f, anyAccess)
	return nil
}

// RevokeFamily revokes all tokens of a family's flow and access.
func (m *Memory) RevokeFamily(ctx context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx, ""); err != nil {
		return err
	}
	if f, ok := m.families[id]; ok {
		m.drop(f.Current.Flow, f.Current.Access)
	}
	return nil
}

// Token returns a record.
func (m *Memory) Token(ctx context.Context, id string) (token.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx, ""); err != nil {
		return token.Record{}, err
	}
	r, ok := m.records[id]
	if !ok {
		return token.Record{}, token.ErrUnknown
	}
	r.Unused = false
	for _, f := range m.families {
		r.Unused = r.Unused || f.Current.ID == id && f.Current.Unused
	}
	return r, nil
}

// Family returns a family.
func (m *Memory) Family(ctx context.Context, id string) (token.Family, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx, ""); err != nil {
		return token.Family{}, err
	}
	f, ok := m.families[id]
	if !ok {
		return token.Family{}, token.ErrUnknown
	}
	return f, nil
}

// PurgeTokens removes what expired before a time.
func (m *Memory) PurgeTokens(ctx context.Context, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx, ""); err != nil {
		return err
	}
	maps.DeleteFunc(m.records, func(_ string, r token.Record) bool {
		return r.Expires.Before(before) || r.Revoked && r.Expires.Equal(token.Never)
	})
	maps.DeleteFunc(m.families, func(_ string, f token.Family) bool { return f.Expires.Before(before) })
	return nil
}

// usable is called with mu held. fresh is the id of a token that is about to be recorded, "" if none is.
func (m *Memory) usable(ctx context.Context, fresh string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, ok := m.records[fresh]; ok {
		return fmt.Errorf("token %s was recorded before", fresh)
	}
	return m.broken
}

// anyAccess stands for all kinds of access.
const anyAccess token.Access = ""

func matches(r token.Record, f token.Flow, access token.Access) bool {
	return r.Flow == f && (access == anyAccess || r.Access == access)
}

// revoke revokes the tokens of a flow with an access but one. It is called with mu held.
func (m *Memory) revoke(f token.Flow, access token.Access, but string) {
	for id, r := range m.records {
		if matches(r, f, access) && id != but {
			r.Revoked = true
			m.records[id] = r
		}
	}
}

// drop revokes the tokens of a flow with an access and drops their family. It is called with mu held.
func (m *Memory) drop(f token.Flow, access token.Access) {
	m.revoke(f, access, "")
	maps.DeleteFunc(m.families, func(_ string, old token.Family) bool { return matches(old.Current, f, access) })
}

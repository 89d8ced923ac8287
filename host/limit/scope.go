package limit

import (
	"cmp"
	"fmt"
)

// Kind is a kind of what limits are for.
type Kind string

// The kinds.
const (
	Host         Kind = "host"
	Context      Kind = "context"      // participant context
	Counterparty Kind = "counterparty" // within a participant context
	Dataset      Kind = "dataset"      // within a participant context
	Profile      Kind = "profile"      // has only a weight, which is that of its flows
	Flow         Kind = "flow"
)

// Kinds lists all kinds, the widest first.
func Kinds() []Kind { return []Kind{Host, Context, Counterparty, Dataset, Profile, Flow} }

// Scope is what a limit is for. ID is "" for the host, and for the default of all of a kind.
type Scope struct {
	Kind    Kind
	Context string // participant context; "" for the host, profiles, and defaults
	ID      string // of a Context, too
}

func (s Scope) String() string {
	switch {
	case s.Kind == Host:
		return "the host"
	case s.ID == "":
		return "each " + string(s.Kind)
	}
	return fmt.Sprintf("%s %q", s.Kind, s.ID)
}

// Compare orders scopes for people.
func (s Scope) Compare(t Scope) int {
	order := func(k Kind) int {
		for i, known := range Kinds() {
			if k == known {
				return i
			}
		}
		return -1
	}
	return cmp.Or(cmp.Compare(order(s.Kind), order(t.Kind)), cmp.Compare(s.Context, t.Context), cmp.Compare(s.ID, t.ID))
}

// Limit is what may be said about a scope. A member that is nil is not said: what is said elsewhere holds. 0 is no limit.
type Limit struct {
	Bytes     *int64 // per second
	Records   *int64 // per second
	Transfers *int64 // at a time
	Weight    *int64 // in comparison to others of its kind; 1 if it is not said anywhere
}

// MaxWeight is the most that a weight can be.
const MaxWeight = 1000

// IsZero reports whether nothing is said.
func (l Limit) IsZero() bool { return l == Limit{} }

// Over returns l with what is said below it where l says nothing.
func (l Limit) Over(below Limit) Limit {
	return Limit{Bytes: cmp.Or(l.Bytes, below.Bytes), Records: cmp.Or(l.Records, below.Records),
		Transfers: cmp.Or(l.Transfers, below.Transfers), Weight: cmp.Or(l.Weight, below.Weight)}
}

// Who is a flow with what it is under.
type Who struct {
	Context, Flow, Dataset, Counterparty, Profile string
}

// The gates of a flow, the narrowest first. A flow that waits at a wide one has passed the narrow ones, and holds up nobody else there.
const (
	atFlow = iota
	atDataset
	atCounterparty
	atContext
	atHost
	levels
)

func (w Who) scopes() [levels]Scope {
	return [levels]Scope{
		atFlow:         {Flow, w.Context, w.Flow},
		atDataset:      {Dataset, w.Context, w.Dataset},
		atCounterparty: {Counterparty, w.Context, w.Counterparty},
		atContext:      {Context, w.Context, w.Context},
		atHost:         {Kind: Host},
	}
}

// rules are what was said about scopes.
type rules struct {
	configured, put map[Scope]Limit
}

// of returns what holds for a scope. What was put goes before what is configured, and what is for one goes before what is for all.
func (r *rules) of(s Scope) Limit {
	all := Scope{Kind: s.Kind}
	return r.put[s].Over(r.configured[s]).Over(r.put[all]).Over(r.configured[all])
}

func (r *rules) weight(s Scope) float64 {
	if w := r.of(s).Weight; w != nil && *w > 0 {
		return float64(*w)
	}
	return 1
}

// flowWeight is what is said about the flow, its dataset or its profile.
func (r *rules) flowWeight(w Who) float64 {
	at := w.scopes()
	for _, s := range []Scope{at[atFlow], at[atDataset], {Kind: Profile, ID: w.Profile}} {
		if weight := r.of(s).Weight; weight != nil && *weight > 0 {
			return float64(*weight)
		}
	}
	return 1
}

func value(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

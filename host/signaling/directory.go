package signaling

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// DirectoryOptions say which control planes there are.
type DirectoryOptions struct {
	// DataPlane is the id of this data plane: the audience of tokens unless a control plane's Inbound says otherwise.
	DataPlane string
	// ControlPlanes are those that an operator configured.
	ControlPlanes []ControlPlane
	// RegistrationKeys are the secrets with which control planes can be registered over the API, by the participant context they then
	// act in. Empty: none can be, and none that were are known.
	RegistrationKeys map[string]string
	// Documents keeps those that were registered. It is needed with RegistrationKeys.
	Documents flow.Documents
	// Outbound decides what may be reached of what a registration names. nil: the public internet over HTTPS.
	Outbound *outbound.Policy
	// HTTP calls the configured control planes that have no client of their own. nil: one that trusts the machine's root certificates.
	HTTP *http.Client
	// Clock tells the time. nil: time.Now.
	Clock func() time.Time
	// Logger gets a line for each registration. nil: none.
	Logger *slog.Logger
}

// Directory knows the control planes, those that an operator configured and those that were registered over the API: who calls, and how
// to call them. It is safe for concurrent use.
type Directory struct {
	dataPlane string
	keys      map[string]string // registration keys by participant context
	documents flow.Documents
	policy    *outbound.Policy
	http      *http.Client // for configured ones
	guarded   *http.Client // for registered ones
	clock     func() time.Time
	log       *slog.Logger
	open      *member // whoever calls is it; nil if callers have to prove who they are

	changing sync.Mutex // held while a registration is stored and then takes effect

	mu      sync.RWMutex // guards what follows
	members map[string]*member
	order   []*member // the same, those that are configured first, then by when they were registered; replaced and not changed
}

// member is a control plane in a Directory.
type member struct {
	ControlPlane // with defaults
	registered   time.Time
	inbound      *inbound // nil: none
	peer         *peer
}

// NewDirectory returns a Directory with the configured control planes and those that were registered before. It calls none of them. The
// error names the one that is not configured correctly. Close ends what a Directory has going on.
func NewDirectory(ctx context.Context, o DirectoryOptions) (*Directory, error) {
	d := &Directory{
		dataPlane: o.DataPlane,
		keys:      maps.Clone(o.RegistrationKeys),
		documents: o.Documents,
		policy:    o.Outbound,
		http:      plainClient(o.HTTP),
		clock:     o.Clock,
		log:       o.Logger,
		members:   map[string]*member{},
	}
	if d.policy == nil {
		d.policy = &outbound.Policy{}
	}
	if d.clock == nil {
		d.clock = time.Now
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.guarded = plainClient(d.policy.Client(outbound.Limits{}))
	err := d.configure(o.ControlPlanes)
	if err == nil && len(d.keys) > 0 {
		err = d.load(ctx)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// configure takes the control planes of the operator.
func (d *Directory) configure(all []ControlPlane) error {
	for _, cp := range all {
		m, err := d.newMember(cp, cmp.Or(cp.HTTP, d.http))
		if err != nil {
			return fmt.Errorf("control plane %q: %w", cp.ID, err)
		}
		if d.members[cp.ID] != nil {
			m.close()
			return fmt.Errorf("control plane %q is there twice", cp.ID)
		}
		d.put(cp.ID, m)
	}
	if err := d.checkProofs(); err != nil {
		return err
	}
	return d.checkRegistrationKeys()
}

// checkProofs demands that callers can be told from one another.
func (d *Directory) checkProofs() error {
	secrets := map[string]string{}
	callers := d.callers()
	for _, m := range callers {
		switch in := m.inbound; {
		case in == nil && len(callers) == 1 && len(d.keys) == 0:
			d.open = m
		case in == nil:
			return fmt.Errorf("control plane %q has no inbound authorization, which only a control plane that is the only one can do without", m.ID)
		case in.static():
			if other, ok := secrets[string(in.secret[:])]; ok {
				return fmt.Errorf("control planes %q and %q have the same secret", other, m.ID)
			}
			secrets[string(in.secret[:])] = m.ID
		}
	}
	return nil
}

func (d *Directory) checkRegistrationKeys() error {
	contexts := map[string]string{}
	for context, key := range d.keys {
		if err := checkSecretHeader("", key); err != nil {
			return fmt.Errorf("registration key of participant context %q: %w", context, err)
		}
		if other, ok := contexts[key]; ok {
			return fmt.Errorf("participant contexts %q and %q have the same registration key", min(context, other), max(context, other))
		}
		contexts[key] = context
	}
	if len(d.keys) > 0 && d.documents == nil {
		return errors.New("there is nothing that keeps the control planes that register")
	}
	return nil
}

func (d *Directory) newMember(cp ControlPlane, client *http.Client) (*member, error) {
	cp = cp.withDefaults()
	if err := cp.check(); err != nil {
		return nil, err
	}
	client = plainClient(client)
	in, err := newInbound(cp, d.dataPlane, client, d.clock)
	if err != nil {
		return nil, fmt.Errorf("inbound authorization: %w", err)
	}
	p := &peer{http: client, timeout: cp.Timeout, auth: newAuthorizer(cp, client, d.clock)}
	return &member{ControlPlane: cp, inbound: in, peer: p}, nil
}

func (m *member) close() {
	if m.inbound != nil {
		m.inbound.close()
	}
}

// plainClient returns a client like c that follows no redirects and keeps no cookies: what it sends is meant for one host.
func plainClient(c *http.Client) *http.Client {
	own := http.Client{}
	if c != nil {
		own = *c
	}
	if own.Transport == nil {
		own.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	own.Jar = nil
	return &own
}

// Close ends what goes on in the background. The Directory is not used afterwards.
func (d *Directory) Close() {
	for _, m := range d.sorted() {
		m.close()
		m.peer.http.CloseIdleConnections()
	}
	d.guarded.CloseIdleConnections()
}

// member returns a control plane of a participant context.
func (d *Directory) member(context, id string) (*member, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m := d.members[id]
	if m == nil || m.Context != context {
		return nil, false
	}
	return m, true
}

// knows reports whether there is a control plane of that id in any participant context.
func (d *Directory) knows(id string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.members[id] != nil
}

// sorted returns the control planes, those that are configured first, then by when they were registered.
func (d *Directory) sorted() []*member {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.order
}

// put replaces the control plane with an id by m, or by nothing if m is nil, and returns what was replaced.
func (d *Directory) put(id string, m *member) *member {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.members[id]
	if m == nil {
		delete(d.members, id)
	} else {
		d.members[id] = m
	}
	d.order = slices.SortedFunc(maps.Values(d.members), func(a, b *member) int {
		return cmp.Or(a.registered.Compare(b.registered), cmp.Compare(a.ID, b.ID))
	})
	return before
}

// Entry is a control plane as operators see it.
type Entry struct {
	ID       string
	Context  string
	Endpoint string
	// Protocol is what it speaks: dps, or the name of its Protocol.
	Protocol string
	// Inbound and Outbound are the types of authorization, "" for none.
	Inbound  string
	Outbound string
	// Registered is when it was registered last over the API. Zero: it is configured.
	Registered time.Time
}

// Entries lists the control planes: those that are configured, then those that were registered.
func (d *Directory) Entries() []Entry {
	var entries []Entry
	for _, m := range d.sorted() {
		entries = append(entries, Entry{ID: m.ID, Context: m.Context, Endpoint: m.Endpoint, Protocol: m.protocolName(),
			Inbound: m.Inbound.Type, Outbound: m.Outbound.Type, Registered: m.registered})
	}
	return entries
}

package signaling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// RegistrarOptions say what a Registrar registers, and where.
type RegistrarOptions struct {
	// DataPlane is the id of this data plane.
	DataPlane string
	// ControlPlanes are those of which the ones with a Registration are told about this data plane.
	ControlPlanes *Directory
	// Profiles returns the profiles that this data plane offers at present in a participant context.
	Profiles func(participantContext string) []string
	// Carried returns what this data plane offers at present to control planes whose messages carry the addresses of sources, so that
	// they need no dataset: profiles, and the types of sources. It is needed for those with a Protocol.
	Carried func(participantContext string) (profiles, sources []string)
	// Changed gets a value when Profiles or Carried may return others. nil: they stay.
	Changed <-chan struct{}
	// Documents keeps which registrations were withdrawn, so that the next process does not make them again.
	Documents flow.Documents
	// Clock tells the time. nil: time.Now.
	Clock func() time.Time
	// Logger gets a line for each attempt. nil: none.
	Logger *slog.Logger
	// Registerer gets the metrics. nil: none.
	Registerer prometheus.Registerer
}

// Registrar keeps this data plane registered at the control planes that have a Registration. It tries for ever, with growing delays,
// and registers anew when the profiles change, or when a control plane whose Protocol can be asked has lost the registration. It is safe for concurrent use.
type Registrar struct {
	dataPlane  string
	profiles   func(participantContext string) []string
	carried    func(participantContext string) (profiles, sources []string)
	changed    <-chan struct{}
	documents  flow.Documents
	clock      func() time.Time
	log        *slog.Logger
	metrics    registrationMetrics
	enrolments []*enrolment
}

// ErrNoRegistration says that a control plane is not one that this data plane registers at.
var ErrNoRegistration = errors.New("this data plane does not register at this control plane")

// RegistrationStatus is how a registration stands.
type RegistrationStatus struct {
	ControlPlane string
	// Endpoint is the URL below which this data plane is registered.
	Endpoint string
	// Since is when this data plane was registered last. Zero: it is not registered, as far as is known.
	Since time.Time
	// Profiles are those it is registered with.
	Profiles []string
	// Sources are the types of sources it is registered with, where a protocol has that.
	Sources []string
	// Withdrawn says that it is not to be registered, until Register says otherwise. It outlives the process.
	Withdrawn bool
	// Attempts is how many have failed in a row.
	Attempts int
	// LastErr is why the last attempt failed. "": it did not.
	LastErr string
	// Next is when the next attempt is due. Zero: none is.
	Next time.Time
}

// State sums a status up in a word: registered, pending, failed or deregistered. What failed is tried again, unless it was to deregister.
func (s RegistrationStatus) State() string {
	switch {
	case s.LastErr != "":
		return "failed"
	case s.Withdrawn:
		return "deregistered"
	case s.Since.IsZero():
		return "pending"
	default:
		return "registered"
	}
}

// NewRegistrar returns a Registrar that registers when it runs, but for what was withdrawn.
func NewRegistrar(ctx context.Context, o RegistrarOptions) (*Registrar, error) {
	r := &Registrar{
		dataPlane: o.DataPlane,
		profiles:  o.Profiles,
		carried:   o.Carried,
		changed:   o.Changed,
		documents: o.Documents,
		clock:     o.Clock,
		log:       o.Logger,
		metrics:   newRegistrationMetrics(o.Registerer),
	}
	if r.clock == nil {
		r.clock = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, m := range o.ControlPlanes.sorted() {
		if m.Registration != nil {
			r.enrolments = append(r.enrolments, newEnrolment(r, m))
			r.metrics.registered.WithLabelValues(m.ID).Set(0)
		}
	}
	return r, r.load(ctx)
}

// withdrawnKind is the kind of the documents that say which registrations were withdrawn.
const withdrawnKind = "withdrawn_registration"

// withdrawal is such a document.
type withdrawal struct {
	// Failed is why the control plane may not know of it. "": it does.
	Failed string `json:"failed,omitempty"`
}

// load takes up what was withdrawn. A document about a control plane that this data plane does not register at any more stays.
func (r *Registrar) load(ctx context.Context) error {
	documents, err := r.documents.Documents(ctx, withdrawnKind)
	if err != nil {
		return fmt.Errorf("withdrawn registrations: %w", err)
	}
	for _, document := range documents {
		for _, e := range r.enrolments {
			if e.id != document.ID || e.context != document.Context {
				continue
			}
			var w withdrawal
			if json.Unmarshal(document.Content, &w) != nil {
				w.Failed = "what was stored about it cannot be read"
			}
			e.status.Withdrawn, e.status.LastErr = true, w.Failed
			r.log.WarnContext(ctx, "not registered, since an operator has taken that back", "control_plane", e.id)
		}
	}
	return nil
}

// Run registers until ctx ends, and then ends those registrations that are to end with it. It returns when that is done. There is one
// Run at a time.
func (r *Registrar) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, e := range r.enrolments {
		wg.Go(func() { e.run(ctx) })
	}
	wg.Go(func() { r.watch(ctx) })
	wg.Wait()
	return nil
}

// watch passes on that the profiles have changed.
func (r *Registrar) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-r.changed:
			if !ok {
				return
			}
			for _, e := range r.enrolments {
				e.wakeUp()
			}
		}
	}
}

// Register registers this data plane now, also if that was withdrawn. If it fails, Run goes on trying. The error is ErrNoRegistration or
// says what the control plane answered.
func (r *Registrar) Register(ctx context.Context, controlPlane string) error {
	e, err := r.at(controlPlane)
	if err != nil {
		return err
	}
	return e.now(ctx, false)
}

// Deregister ends the registration at a control plane, and has this data plane not registered there again until Register, by this
// process or a later one. The error is ErrNoRegistration or says what the control plane answered: then it may send further flows, and
// Deregister can be called again.
func (r *Registrar) Deregister(ctx context.Context, controlPlane string) error {
	e, err := r.at(controlPlane)
	if err != nil {
		return err
	}
	return e.now(ctx, true)
}

// Status tells how the registrations stand.
func (r *Registrar) Status() []RegistrationStatus {
	statuses := make([]RegistrationStatus, len(r.enrolments))
	for i, e := range r.enrolments {
		statuses[i] = e.snapshot()
	}
	return statuses
}

func (r *Registrar) at(controlPlane string) (*enrolment, error) {
	for _, e := range r.enrolments {
		if e.id == controlPlane {
			return e, nil
		}
	}
	return nil, fmt.Errorf("control plane %q: %w", controlPlane, ErrNoRegistration)
}

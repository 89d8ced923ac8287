package signaling

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// enrolment keeps this data plane registered at one control plane.
type enrolment struct {
	*Registrar
	Registration
	protocol Protocol // nil: Data Plane Signaling
	id       string
	context  string // participant context
	peer     *peer

	wake chan struct{} // has room for one value
	turn chan struct{} // holds a value while a request is made, so that they arrive in order

	mu     sync.Mutex // guards what follows
	status RegistrationStatus
	tried  bool // at least once, with whatever success
	review review
}

func newEnrolment(r *Registrar, m *member) *enrolment {
	e := &enrolment{
		Registrar:    r,
		Registration: *m.Registration,
		protocol:     m.Protocol,
		id:           m.ID,
		context:      m.Context,
		peer:         m.peer,
		wake:         make(chan struct{}, 1),
		turn:         make(chan struct{}, 1),
		status:       RegistrationStatus{ControlPlane: m.ID},
	}
	if len(e.Headers) > 0 {
		e.peer = &peer{http: m.peer.http, timeout: m.Timeout, auth: newStaticHeaders(e.Headers, false)}
	}
	if e.Endpoint == "" {
		e.Endpoint = m.Endpoint
	}
	e.status.Endpoint = e.Endpoint
	return e
}

func (e *enrolment) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-timer.C:
		}
		if wait := e.pass(ctx); wait >= 0 {
			timer.Reset(wait)
		}
	}
	if e.DeregisterOnStop {
		e.leave(context.WithoutCancel(ctx))
	}
}

// pass makes an attempt if one is due, and returns how long it is until the next one; less than 0 if none is due.
func (e *enrolment) pass(ctx context.Context) time.Duration {
	status := e.snapshot()
	switch now := e.clock(); {
	case ctx.Err() != nil, status.Withdrawn:
		return -1
	case e.upToDate(status):
		return e.reviewed(ctx)
	case status.Next.After(now):
		return status.Next.Sub(now)
	}
	if e.take(ctx) != nil {
		return -1
	}
	defer e.give()
	if status = e.snapshot(); status.Withdrawn || e.upToDate(status) { // while it was another's turn
		return -1
	}
	return e.registered(ctx)
}

// registered makes an attempt to register in turn, and returns how long it is until the next attempt or review.
func (e *enrolment) registered(ctx context.Context) time.Duration {
	if e.register(ctx) == nil {
		return e.untilReview()
	}
	return max(0, e.snapshot().Next.Sub(e.clock()))
}

func (e *enrolment) upToDate(s RegistrationStatus) bool {
	profiles, sources := e.offered()
	return !s.Since.IsZero() && slices.Equal(s.Profiles, profiles) && slices.Equal(s.Sources, sources)
}

// leave ends a registration when the Registrar stops.
func (e *enrolment) leave(ctx context.Context) {
	if e.take(ctx) != nil {
		return
	}
	defer e.give()
	if e.mayBeThere() {
		e.deregister(ctx)
	}
}

// mayBeThere reports whether there may be a registration to end: also an attempt that failed can have arrived.
func (e *enrolment) mayBeThere() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tried && (!e.status.Withdrawn || !e.status.Since.IsZero())
}

// now registers or withdraws for someone who waits for it.
func (e *enrolment) now(ctx context.Context, withdraw bool) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.give()
	defer e.wakeUp()
	keep := e.resume
	attempt := e.register
	if withdraw {
		keep = func(ctx context.Context) error {
			return e.withdraw(ctx, "the host has stopped before the control plane answered")
		}
		attempt = e.deregister
	}
	if err := keep(ctx); err != nil {
		return err
	}
	e.update(func(s *RegistrationStatus) { s.Withdrawn, s.Attempts, s.Next = withdraw, 0, time.Time{} })
	failed := attempt(ctx)
	if withdraw {
		text := ""
		if failed != nil {
			text = failed.text
		}
		if err := e.withdraw(context.WithoutCancel(ctx), text); err != nil {
			return err
		}
	}
	if failed != nil {
		return fmt.Errorf("control plane %q: %s", e.id, failed.text)
	}
	return nil
}

// withdraw stores that this data plane is not to be registered, and why the control plane may not know.
func (e *enrolment) withdraw(ctx context.Context, failed string) error {
	document := flow.Document{Kind: withdrawnKind, Context: e.context, ID: e.id, Content: encode(withdrawal{failed}), Updated: e.clock().UTC()}
	if err := e.documents.PutDocument(ctx, document); err != nil {
		return fmt.Errorf("store that the registration with %q is withdrawn: %w", e.id, err)
	}
	return nil
}

// resume stores that it is to be registered.
func (e *enrolment) resume(ctx context.Context) error {
	if _, err := e.documents.DeleteDocument(ctx, withdrawnKind, e.context, e.id); err != nil {
		return fmt.Errorf("store that the registration with %q is wanted: %w", e.id, err)
	}
	return nil
}

// register makes one attempt. It is called in turn.
func (e *enrolment) register(ctx context.Context) *failure {
	profiles, sources := e.offered()
	failed := e.sendRegistration(ctx, profiles, sources)
	e.update(func(s *RegistrationStatus) {
		e.tried = true
		if failed == nil {
			*s = RegistrationStatus{ControlPlane: e.id, Endpoint: e.Endpoint, Since: e.clock(), Profiles: profiles, Sources: sources}
			return
		}
		s.Attempts++
		s.LastErr = failed.text
		s.Next = e.clock().Add(max(backoff(s.Attempts), min(failed.retryAfter, maxRetryAfter)))
	})
	e.attempted(ctx, opRegister, failed, profiles)
	return failed
}

func (e *enrolment) sendRegistration(ctx context.Context, profiles, sources []string) *failure {
	if e.protocol != nil {
		to, message, err := e.protocol.Registration(e.Endpoint, e.dataPlane, e.DataPlaneEndpoint, profiles, sources)
		if err != nil {
			return &failure{text: err.Error()}
		}
		_, failed := e.call(ctx, http.MethodPost, to, message)
		return failed
	}
	message := encode(dataPlaneRegistration{
		DataPlaneID:   e.dataPlane,
		Endpoint:      e.DataPlaneEndpoint,
		Profiles:      profiles,
		TransferTypes: profiles,
		Labels:        append([]string{}, e.Labels...),
		Authorization: e.Authorization,
	})
	_, failed := e.call(ctx, http.MethodPut, e.url(), message)
	return failed
}

// url is where Data Plane Signaling has all data planes.
func (e *enrolment) url() string { return strings.TrimRight(e.Endpoint, "/") + "/dataplanes" }

// deregister makes one attempt. It is called in turn.
func (e *enrolment) deregister(ctx context.Context) *failure {
	failed := e.sendDeregistration(ctx)
	e.update(func(s *RegistrationStatus) {
		s.Next = time.Time{}
		if failed != nil {
			s.Attempts++
			s.LastErr = failed.text
			return
		}
		s.Since, s.Profiles, s.Sources, s.LastErr, s.Attempts = time.Time{}, nil, nil, "", 0
	})
	e.attempted(ctx, opDeregister, failed, nil)
	return failed
}

func (e *enrolment) sendDeregistration(ctx context.Context) (failed *failure) {
	ways := [][2]string{{http.MethodDelete, e.url() + "/" + url.PathEscape(e.dataPlane)}}
	if e.protocol != nil {
		ways = e.protocol.Deregistration(e.Endpoint, e.dataPlane)
	}
	for _, way := range ways {
		var answer *reply
		answer, failed = e.call(ctx, way[0], way[1], nil, http.StatusNotFound)
		if answer == nil || answer.StatusCode != http.StatusMethodNotAllowed {
			break
		}
	}
	return failed
}

// call makes a request that succeeds with any 2xx and with the codes that are as good.
func (e *enrolment) call(ctx context.Context, method, url string, message []byte, good ...int) (*reply, *failure) {
	answer, failed := e.peer.exchange(ctx, method, url, message, maxResponse)
	if failed != nil || answer.StatusCode/100 == 2 || slices.Contains(good, answer.StatusCode) {
		return answer, failed
	}
	quote := e.Authorization == nil || !repeats(answer.body, e.Authorization.ClientSecret)
	return answer, refusal(answer, quote, e.clock())
}

// repeats reports whether a text contains a secret, in one of the ways in which it can be written.
func repeats(text []byte, secret string) bool {
	inJSON := strings.Trim(string(bytes.TrimSpace(encode(secret))), `"`)
	for _, form := range []string{secret, inJSON, url.QueryEscape(secret)} {
		if secret != "" && bytes.Contains(text, []byte(form)) {
			return true
		}
	}
	return false
}

func (e *enrolment) attempted(ctx context.Context, op operation, failed *failure, profiles []string) {
	status := e.snapshot()
	e.metrics.attempted(e.id, op, failed)
	registered := 0.0
	if e.upToDate(status) {
		registered = 1
	}
	e.metrics.registered.WithLabelValues(e.id).Set(registered)
	attrs := []slog.Attr{slog.String("control_plane", e.id)}
	switch {
	case failed != nil && ctx.Err() != nil: // broken off
	case failed != nil:
		attrs = append(attrs, slog.String("operation", string(op)), slog.String("err", failed.text), slog.Time("next", status.Next))
		e.log.LogAttrs(ctx, slog.LevelWarn, "registration failed", attrs...)
	case op == opRegister:
		e.log.LogAttrs(ctx, slog.LevelInfo, "registered", append(attrs, slog.Any("profiles", profiles))...)
	default:
		e.log.LogAttrs(ctx, slog.LevelInfo, "deregistered", attrs...)
	}
}

// offered returns the profiles, and the types of sources where they matter, in an order that does not depend on how they were gathered.
// Neither is nil where it matters.
func (e *enrolment) offered() (profiles, sources []string) {
	if e.protocol == nil {
		return inOrder(e.profiles(e.context)), nil
	}
	profiles, sources = e.carried(e.context)
	return inOrder(profiles), inOrder(sources)
}

func inOrder(names []string) []string {
	names = append([]string{}, names...)
	slices.Sort(names)
	return slices.Compact(names)
}

func (e *enrolment) take(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *enrolment) give() { <-e.turn }

func (e *enrolment) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default: // it will wake up anyway
	}
}

func (e *enrolment) update(change func(*RegistrationStatus)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.status)
}

func (e *enrolment) snapshot() RegistrationStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.status
	s.Profiles, s.Sources = slices.Clone(s.Profiles), slices.Clone(s.Sources)
	return s
}

// dataPlaneRegistration is DataPlaneRegistrationMessage, with the name that profiles had up to RC2 too.
type dataPlaneRegistration struct {
	DataPlaneID   string              `json:"dataplaneId"`
	Endpoint      string              `json:"endpoint"`
	Profiles      []string            `json:"profiles"`
	TransferTypes []string            `json:"transferTypes"`
	Labels        []string            `json:"labels"`
	Authorization *AuthorizationEntry `json:"authorization,omitempty"`
}

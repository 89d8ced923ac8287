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
	id      string
	context string // participant context
	peer    *peer
	url     string // of all data planes there

	wake chan struct{} // has room for one value
	turn chan struct{} // holds a value while a request is made, so that they arrive in order

	mu     sync.Mutex // guards what follows
	status RegistrationStatus
	tried  bool // at least once, with whatever success
}

func newEnrolment(r *Registrar, m *member) *enrolment {
	e := &enrolment{
		Registrar:    r,
		Registration: *m.Registration,
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
	e.url = strings.TrimRight(e.Endpoint, "/") + "/dataplanes"
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
	case ctx.Err() != nil, status.Withdrawn, e.upToDate(status):
		return -1
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
	if e.register(ctx) == nil {
		return -1
	}
	return max(0, e.snapshot().Next.Sub(e.clock()))
}

func (e *enrolment) upToDate(s RegistrationStatus) bool {
	return !s.Since.IsZero() && slices.Equal(s.Profiles, e.offered())
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
	profiles := e.offered()
	message := encode(dataPlaneRegistration{
		DataPlaneID:   e.dataPlane,
		Endpoint:      e.DataPlaneEndpoint,
		Profiles:      profiles,
		TransferTypes: profiles,
		Labels:        append([]string{}, e.Labels...),
		Authorization: e.Authorization,
	})
	failed := e.call(ctx, http.MethodPut, e.url, message)
	e.update(func(s *RegistrationStatus) {
		e.tried = true
		if failed == nil {
			*s = RegistrationStatus{ControlPlane: e.id, Endpoint: e.Endpoint, Since: e.clock(), Profiles: profiles}
			return
		}
		s.Attempts++
		s.LastErr = failed.text
		s.Next = e.clock().Add(max(backoff(s.Attempts), min(failed.retryAfter, maxRetryAfter)))
	})
	e.attempted(ctx, opRegister, failed, profiles)
	return failed
}

// deregister makes one attempt. It is called in turn.
func (e *enrolment) deregister(ctx context.Context) *failure {
	failed := e.call(ctx, http.MethodDelete, e.url+"/"+url.PathEscape(e.dataPlane), nil, http.StatusNotFound)
	e.update(func(s *RegistrationStatus) {
		s.Next = time.Time{}
		if failed != nil {
			s.Attempts++
			s.LastErr = failed.text
			return
		}
		s.Since, s.Profiles, s.LastErr, s.Attempts = time.Time{}, nil, "", 0
	})
	e.attempted(ctx, opDeregister, failed, nil)
	return failed
}

// call makes a request that succeeds with any 2xx and with the codes that are as good.
func (e *enrolment) call(ctx context.Context, method, url string, message []byte, good ...int) *failure {
	answer, failed := e.peer.exchange(ctx, method, url, message, maxResponse)
	if failed != nil || answer.StatusCode/100 == 2 || slices.Contains(good, answer.StatusCode) {
		return failed
	}
	quote := e.Authorization == nil || !repeats(answer.body, e.Authorization.ClientSecret)
	return refusal(answer, quote, e.clock())
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

// offered returns the profiles in an order that does not depend on how they were gathered. It is never nil.
func (e *enrolment) offered() []string {
	profiles := append([]string{}, e.profiles(e.context)...)
	slices.Sort(profiles)
	return slices.Compact(profiles)
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
	s.Profiles = slices.Clone(s.Profiles)
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

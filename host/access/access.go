// Package access decides whether a counterparty's request may have what its token stands for: by an operator's rules, by an HTTP
// decision point, or by default. It is asked when the token is known to be good, and before anything is opened.
//
// It knows nothing of tokens, flows, or how a refusal is told.
package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Effect is what a rule, a default or a failure does with a request.
type Effect string

// The effects.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

// Request is what is decided about.
type Request struct {
	ParticipantContext string
	Participant        string
	Counterparty       string
	Agreement          string
	Dataset            string
	Flow               string
	Role               string // provider, consumer
	Direction          string // push, pull
	Profile            string
	ControlPlane       string
	Labels             []string
	Claims             json.RawMessage // JSON, or nothing
	Metadata           json.RawMessage

	Method        string
	Path          string // escaped
	Query         string // as it is in the URL
	Header        http.Header
	Operation     string
	Part          string // "" if the request names none
	RemoteAddress string // IP address
	Time          time.Time
}

// query returns the parameters of the URL.
func (r *Request) query() (url.Values, error) {
	q, err := url.ParseQuery(r.Query)
	if err != nil {
		return nil, errors.New("the query of the request cannot be read")
	}
	return q, nil
}

// Denied is the error about a request that is refused. It is for whoever made the request, too.
type Denied struct {
	By     By
	Rule   string // with ByRule
	Reason string // one line, may be ""
}

func (d *Denied) Error() string {
	text := "denied by default"
	switch d.By {
	case ByRule:
		text = fmt.Sprintf("denied by the rule %q", d.Rule)
	case ByPoint:
		text = "denied by the decision point"
	}
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return text
}

// By says who has decided. It is a label of metrics.
type By string

// Who decides.
const (
	ByRule    By = "rule"
	ByPoint   By = "decision_point"
	ByDefault By = "default"
)

// Options are what a Control needs. Default is required.
type Options struct {
	// Rules are asked in their order. The first that matches decides.
	Rules []Rule
	// Point is asked when none matches. nil: nobody is.
	Point   *Point
	Default Effect
	// Registerer and Logger may be nil.
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Control decides. It is safe for concurrent use.
type Control struct {
	Options
	decisions *prometheus.CounterVec
	complain  rate.Sometimes // the log about failures is not to be filled by those who cause them
}

// New returns a Control.
func New(o Options) (*Control, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Control{Options: o, complain: rate.Sometimes{First: 10, Interval: 10 * time.Second}}
	c.decisions = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "towpath_access_decisions_total",
		Help: "Requests of counterparties that were allowed or denied, or that could not be decided about (failed), by rule, decision point, default.",
	}, []string{"outcome", "by", "rule"})
	if o.Registerer == nil {
		return c, nil
	}
	if err := o.Registerer.Register(c.decisions); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return c, nil
}

// decision is what became of a request.
type decision struct {
	effect Effect
	by     By
	rule   string
	reason string
	failed error // why who decides could not; effect is what follows from that
}

// Decide returns nil if the request may go on, and a *Denied if it may not. Any other error is the cause for which ctx ended.
func (c *Control) Decide(ctx context.Context, r Request) error {
	d := c.decide(ctx, &r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.note(ctx, &r, d)
	if d.effect == Allow {
		return nil
	}
	return &Denied{By: d.by, Rule: d.rule, Reason: d.reason}
}

func (c *Control) decide(ctx context.Context, r *Request) decision {
	scope := newScope(r)
	for _, rule := range c.Rules {
		switch matches, err := rule.matches(scope); {
		case err != nil:
			return decision{effect: Deny, by: ByRule, rule: rule.Name, reason: "the rule could not be evaluated", failed: err}
		case matches:
			return decision{effect: rule.Effect, by: ByRule, rule: rule.Name}
		}
	}
	if c.Point != nil {
		return c.Point.ask(ctx, r)
	}
	return decision{effect: c.Default, by: ByDefault}
}

func (c *Control) note(ctx context.Context, r *Request, d decision) {
	outcome := map[Effect]string{Allow: "allowed", Deny: "denied"}[d.effect]
	about := []any{"participant_context", r.ParticipantContext, "flow", r.Flow, "operation", r.Operation, "outcome", outcome, "by", d.by}
	if d.rule != "" {
		about = append(about, "rule", d.rule)
	}
	if d.failed == nil {
		c.decisions.WithLabelValues(outcome, string(d.by), d.rule).Inc()
		c.Logger.DebugContext(ctx, "access decided", append(about, "reason", d.reason)...)
		return
	}
	c.decisions.WithLabelValues("failed", string(d.by), d.rule).Inc()
	c.complain.Do(func() { c.Logger.WarnContext(ctx, "access could not be decided", append(about, "err", d.failed)...) })
}

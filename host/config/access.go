package config

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/towpath-dataplane/towpath/host/access"
)

// Access is the access block: who may do what with a token that is good.
type Access struct {
	// Rules are asked in their order; the first that matches decides.
	Rules []access.Rule
	// DecisionPoint is asked when none matches. nil: nobody is.
	DecisionPoint *DecisionPoint
	// Default is what holds then.
	Default access.Effect
}

// DecisionPoint is the decision_point block of access.
type DecisionPoint struct {
	URL       string // may hold a secret
	Timeout   time.Duration
	OnFailure access.Effect
	Headers   map[string]Secret
}

// effect reads what is done with a request.
var effect = oneOf(access.Allow, access.Deny)

func (l *loader) access(b *hcl.Block) *Access {
	f := l.open(b, accessSchema)
	a := &Access{}
	set(f, "default", &a.Default, effect)
	for _, inner := range f.blocks {
		if inner.Type == "rule" && !l.again(inner, "rule "+inner.Labels[0], "rule "+inner.Labels[0]) {
			a.Rules = append(a.Rules, l.rule(inner))
		}
	}
	if p := f.single("decision_point"); p != nil {
		a.DecisionPoint = l.decisionPoint(p)
	}
	return a
}

func (l *loader) rule(b *hcl.Block) access.Rule {
	f := l.open(b, ruleSchema)
	name := l.label(b, checkID)
	var does access.Effect
	set(f, "effect", &does, effect)
	attr, ok := f.attrs["when"]
	if !ok {
		return access.Rule{Name: name, Effect: does}
	}
	r, diags := access.NewRule(name, does, attr.Expr)
	for _, d := range diags {
		d.Expression, d.EvalContext = nil, nil // they would print the values of variables, which have none
	}
	l.diags = append(l.diags, diags...)
	return r
}

func (l *loader) decisionPoint(b *hcl.Block) *DecisionPoint {
	f := l.open(b, decisionPointSchema)
	p := &DecisionPoint{Timeout: 2 * time.Second, OnFailure: access.Deny}
	set(f, "url", &p.URL, endpointURL)
	set(f, "timeout", &p.Timeout, duration)
	set(f, "on_failure", &p.OnFailure, effect)
	p.Headers = l.headers(f)
	return p
}

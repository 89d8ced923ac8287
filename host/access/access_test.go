package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample is a request that has everything.
func sample() Request {
	return Request{
		ParticipantContext: "default", Participant: "did:web:us.example", Counterparty: "did:web:them.example", Agreement: "agreement-1",
		Dataset: "tree", Flow: "flow-1", Role: "provider", Direction: "pull", Profile: "HttpData-PULL", ControlPlane: "cp-1",
		Labels: []string{"gold", "eu"}, Claims: json.RawMessage(`{"tier":"gold","level":3,"groups":["a","b"],"gone":null}`),
		Metadata: json.RawMessage(`{"purpose":"research"}`),
		Method:   "GET", Path: "/flows/flow-1/a%2Fb", Query: "x=1&x=2&y=", Operation: "pull", Part: "a.csv", RemoteAddress: "192.0.2.7",
		Header: http.Header{"X-Purpose": {"research", "more"}, "Authorization": {"Bearer s3cret"}, "Proxy-Authorization": {"s3cret"}},
		Time:   time.Date(2026, 3, 4, 6, 30, 0, 0, time.FixedZone("", -2*3600)),
	}
}

func parse(t testing.TB, text string) hcl.Expression {
	t.Helper()
	e, diags := hclsyntax.ParseExpression([]byte(text), "rules.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return e
}

func rule(t testing.TB, name string, effect Effect, when string) Rule {
	t.Helper()
	r, diags := NewRule(name, effect, parse(t, when))
	if diags.HasErrors() {
		t.Fatalf("%s: %v", when, diags)
	}
	return r
}

func control(t testing.TB, o Options) *Control {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConditions(t *testing.T) {
	for when, want := range map[string]string{
		`true`:  "true",
		`false`: "false",
		`participant == "did:web:us.example" && counterparty == "did:web:them.example"`:      "true",
		`counterparty == "did:web:others.example" || dataset != "tree"`:                      "false",
		`agreement == "agreement-1" && flow == "flow-1" && participant_context == "default"`: "true",
		`role == "provider" && direction == "pull" && control_plane == "cp-1"`:               "true",
		`endswith(profile, "-PULL") && startswith(profile, "HttpData")`:                      "true",
		`contains(labels, "gold") && length(labels) == 2`:                                    "true",
		`claims.tier == "gold" && claims.level >= 3 && contains(claims.groups, "b")`:         "true",
		`claims.gone == null`:                                           "true",
		`metadata.purpose == "commerce"`:                                "false",
		`try(claims.nothing, "none") == "none" && !can(claims.nothing)`: "true",
		`claims.nothing == "x"`:                                         "fails: Unsupported attribute",
		`claims.tier > 1`:                                               "fails",
		`claims.tier`:                                                   "fails: it is neither true nor false",
		`claims.gone`:                                                   "fails: it is neither true nor false",
		`method == "GET" && matches(path, "/flows/flow-1/.*")`:          "true",
		`matches(path, "/flows")`:                                       "false",
		`matches(path, claims.tier)`:                                    "false",
		`path == "/flows/flow-1/a%2Fb"`:                                 "true",
		`query.x == ["1", "2"] || contains(query["x"], "2")`:            "true",
		`lookup(query, "nothing", []) == query.y`:                       "false",
		`length(lookup(query, "nothing", [])) == 0`:                     "true",
		`query.nothing == 1`:                                            "fails",
		`headers["x-purpose"] == "research, more"`:                      "true",
		`headers.x-purpose == "research, more"`:                         "true",
		`lookup(headers, "authorization", "none") == "none"`:            "true",
		`can(headers.proxy-authorization)`:                              "false",
		`operation == "pull" && part == "a.csv"`:                        "true",
		`in_network(remote_address, "192.0.2.0/24") && !in_network(remote_address, "10.0.0.0/8")`: "true",
		`in_network(part, "10.0.0.0/8")`:                                                      "fails",
		`time.hour == 8 && time.minute == 30 && time.weekday == "wednesday"`:                  "true",
		`time.rfc3339 == "2026-03-04T08:30:00Z" && time.unix == unix("2026-03-04T08:30:00Z")`: "true",
		`time.unix < unix("2026-03-04T00:00:00Z")`:                                            "false",
		`unix(part) > 0`: "fails",
		`{ for k, v in claims : k => v }.tier == "gold"`: "true",
	} {
		t.Run(when, func(t *testing.T) {
			request := sample()
			got, err := rule(t, "r", Allow, when).matches(newScope(&request))
			switch {
			case err != nil && strings.HasPrefix(want, "fails"):
				if _, says, _ := strings.Cut(want, ": "); !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%v, want %s", err, want)
				}
			case err != nil, want != map[bool]string{true: "true", false: "false"}[got]:
				t.Errorf("%t %v, want %s", got, err, want)
			}
		})
	}
}

// A flow may have neither claims nor labels, and a request no query and no header.
func TestBareRequest(t *testing.T) {
	request := Request{}
	for _, when := range []string{`labels == [] || length(labels) == 0`, `!can(claims.x)`, `length(query) == 0`, `length(headers) == 0`, `part == ""`} {
		if ok, err := rule(t, "r", Allow, when).matches(newScope(&request)); err != nil || !ok {
			t.Errorf("%s: %t %v", when, ok, err)
		}
	}
	for _, broken := range []Request{{Query: "a=%zz"}, {Claims: json.RawMessage(`{`)}} {
		if _, err := rule(t, "r", Allow, `length(query) == 0 && length(keys(claims)) == 0`).matches(newScope(&broken)); err == nil {
			t.Errorf("no error of %+v", broken)
		}
	}
}

func TestConditionsThatAreWrong(t *testing.T) {
	for when, want := range map[string]string{
		`counterpart == "x"`:                             `1,1-12: Unknown variable; There is no variable named "counterpart". There are: agreement, claims`,
		`role == "provider" && tyme.hour > 3`:            `1,23-27: Unknown variable`,
		`time.hours > 3`:                                 `1,5-11: Unsupported attribute`,
		`participant.id == "x"`:                          `1,12-15: Unsupported attribute`,
		`role == "x" || contain(labels, "x")`:            `1,16-23: Call to unknown function`,
		`can(tyme.hour)`:                                 `1,5-9: Unknown variable`,
		`try(contain(labels), true)`:                     `Call to unknown function`,
		`role == "x" ? participant.id == "x" : true`:     `1,26-29: Unsupported attribute`,
		`role == "x" && (role == "y" || time.hours > 3)`: `1,36-42: Unsupported attribute`,
		`contain(labels, "x")`:                           `Call to unknown function`,
		`contains(labels)`:                               `Not enough function arguments`,
		`matches(path, "(")`:                             `1,16-17: Invalid function argument`,
		`in_network(remote_address, "10.0.0.0")`:         `Invalid function argument`,
		`unix("yesterday") > 1`:                          `it is not a time such as`,
		`"true"`:                                         `1,1-7: Unsuitable value; when: it has to be true or false, and is string.`,
		`role`:                                           `is string`,
		`null`:                                           `is null`,
		`labels`:                                         `is list of string`,
		`1 + 1`:                                          `is number`,
		`headers.X-Purpose == "x"`:                       `1,1-18: Unknown header; Names of headers are in lower case here: "x-purpose".`,
		`headers["X-Purpose"] == "x"`:                    `"x-purpose"`,
		`labels && true`:                                 `Invalid operand`,
	} {
		_, diags := NewRule("r", Allow, parse(t, when))
		if !diags.HasErrors() || !strings.Contains(diags.Error(), want) {
			t.Errorf("%s: %v, want %s", when, diags, want)
		}
		for _, d := range diags {
			if d.Subject == nil {
				t.Errorf("%s: %v is nowhere", when, d)
			}
		}
	}
}

// The first rule that matches decides; a rule that fails denies; then comes the default.
func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		rules    []Rule
		standard Effect
		want     string // "" if allowed
		counted  string
	}{
		"no rules, deny":  {nil, Deny, "denied by default", "denied default "},
		"no rules, allow": {nil, Allow, "", "allowed default "},
		"the first": {[]Rule{rule(t, "no", Deny, `dataset == "other"`), rule(t, "yes", Allow, `role == "provider"`), rule(t, "never", Deny, `true`)},
			Deny, "", "allowed rule yes"},
		"denied": {[]Rule{rule(t, "no pulls", Deny, `direction == "pull"`), rule(t, "yes", Allow, `true`)}, Allow,
			`denied by the rule "no pulls"`, "denied rule no pulls"},
		"none": {[]Rule{rule(t, "no", Deny, `role == "consumer"`)}, Allow, "", "allowed default "},
		"a failure denies": {[]Rule{rule(t, "broken", Allow, `claims.nothing == 1`), rule(t, "yes", Allow, `true`)}, Allow,
			`denied by the rule "broken": the rule could not be evaluated`, "failed rule broken"},
		"one that is not reached does not fail": {[]Rule{rule(t, "yes", Allow, `true`), rule(t, "broken", Deny, `claims.nothing == 1`)}, Deny, "", "allowed rule yes"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			metrics := prometheus.NewRegistry()
			k := control(t, Options{Rules: c.rules, Default: c.standard, Registerer: metrics,
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			err := k.Decide(t.Context(), sample())
			var denied *Denied
			if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &denied) || err.Error() != c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			labels := strings.SplitN(c.counted, " ", 3)
			if n := testutil.ToFloat64(k.decisions.WithLabelValues(labels...)); n != 1 {
				t.Errorf("counted %v as %q", n, c.counted)
			}
			if said := log.String(); !strings.Contains(said, "flow=flow-1") || strings.Contains(said, "s3cret") || strings.Contains(said, "gold") {
				t.Errorf("the log says %s", said)
			}
		})
	}
}

// A rule that fails again and again does not fill the log.
func TestComplaintsAreFew(t *testing.T) {
	var log bytes.Buffer
	k := control(t, Options{Rules: []Rule{rule(t, "broken", Allow, `claims.nothing == 1`)}, Default: Allow, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 1000 {
		if k.Decide(t.Context(), sample()) == nil {
			t.Fatal("allowed")
		}
	}
	if n := strings.Count(log.String(), "\n"); n < 1 || n > 50 {
		t.Errorf("%d lines of log", n)
	}
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the flow was suspended")
	cancel(why)
	if err := control(t, Options{Default: Allow}).Decide(ctx, sample()); err != why {
		t.Errorf("%v, want %v", err, why)
	}
}

// Decision points are told what conditions can ask for, by the same names.
func TestDocumentHasTheVocabulary(t *testing.T) {
	request := sample()
	d, err := newDocument(&request)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(encoded, &members); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(members))
	if diff := cmp.Diff(slices.Sorted(maps.Keys(vocabulary)), names); diff != "" {
		t.Errorf("vocabulary and document (-vocabulary +document):\n%s", diff)
	}
	if strings.Contains(string(encoded), "s3cret") {
		t.Error("credentials are handed on")
	}
}

func BenchmarkDecide(b *testing.B) {
	k := control(b, Options{Default: Deny, Rules: []Rule{
		rule(b, "hours", Deny, `time.hour < 6`), rule(b, "gold", Allow, `contains(claims.groups, "a") && in_network(remote_address, "192.0.2.0/24")`)}})
	request := sample()
	for b.Loop() {
		if err := k.Decide(b.Context(), request); err != nil {
			b.Fatal(err)
		}
	}
}

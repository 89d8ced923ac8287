//go:build linux

package e2e_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// rule is something that the specification, one of its profiles, or the habit of a peer asks of a data plane.
type rule struct {
	id   string // in the table that TestConformance prints
	from string // keys of the sources, separated by ", "
	text string
	// check breaks the rule's test if the data plane breaks the rule.
	check func(t *testing.T, w *world)
}

// rules are all there are.
func rules() []rule {
	return slices.Concat(messageRules(), stateRules(), addressRules(), callbackRules(), lifecycleRules(), legacyRules(), edcRules(),
		registrationRules(), authorizationRules(), exchangeRules(), httpRules(), renewalRules(), clientRules(), adminRules())
}

// atOnce is how many rules are tested at a time. Most of them wait for something most of the time.
const atOnce = 12

// TestConformance holds the built host to Data Plane Signaling, its profiles, and the habits of Eclipse EDC. It knows nothing of the
// host but its configuration and what it says over HTTP, and prints what it found, rule by rule. A rule without a result is missing,
// and so is a source that no rule goes back to.
func TestConformance(t *testing.T) {
	t.Parallel()
	all := rules()
	w := newWorld(t)
	results := newLedger(all)
	queue := make(chan rule)
	var work sync.WaitGroup
	for range atOnce {
		work.Go(func() {
			for r := range queue {
				results.run(t, w, r)
			}
		})
	}
	for _, r := range all {
		queue <- r
	}
	close(queue)
	work.Wait()
	for _, r := range afterwards() {
		results.add(r)
		results.run(t, w, r)
	}
	t.Log("\n" + results.table())
	if !selected() {
		for _, id := range results.missing() {
			t.Errorf("rule %s has no result", id)
		}
	}
}

// selected reports whether only some of the rules are wanted: -run Conformance/S3.
func selected() bool { return strings.Contains(flag.Lookup("test.run").Value.String(), "/") }

// afterwards are the rules about all that was said while the others were tested.
func afterwards() []rule {
	return []rule{
		{"C0", "1.3 prepared, 1.3 started, 1.3 completed, 1.3 errored, 1.4 DataFlowStatusMessage", "every callback is a valid message",
			func(t *testing.T, w *world) { w.expectNoViolations(t) }},
		{"Z0", "trap 31, trap 36, trap 40", "no token, no secret and no claim is in any log or database",
			func(t *testing.T, w *world) { w.expectNoSecrets(t) }},
	}
}

// Every rule goes back to a source, and every source has a rule or cannot be seen from outside.
func TestConformanceIsComplete(t *testing.T) {
	t.Parallel()
	cited := map[string]bool{}
	ids := map[string]bool{}
	for _, r := range append(rules(), afterwards()...) {
		if ids[r.id] {
			t.Errorf("two rules are called %s", r.id)
		}
		ids[r.id] = true
		for _, s := range strings.Split(r.from, ", ") {
			cited[s] = true
			if _, ok := sources[s]; !ok {
				t.Errorf("rule %s goes back to %q, which is no source", r.id, s)
			}
		}
	}
	for _, s := range slices.Sorted(maps.Keys(sources)) {
		_, hidden := unseen[s]
		switch {
		case !cited[s] && !hidden:
			t.Errorf("no rule goes back to %s: %s", s, sources[s])
		case cited[s] && hidden:
			t.Errorf("%s can be seen after all", s)
		}
	}
	for s := range unseen {
		if _, ok := sources[s]; !ok {
			t.Errorf("%q is no source", s)
		}
	}
}

// ledger is what was found out about the rules.
type ledger struct {
	order []rule

	mu     sync.Mutex
	result map[string]string // by id; "" as long as there is none
}

func newLedger(all []rule) *ledger { return &ledger{order: all, result: map[string]string{}} }

func (l *ledger) add(r rule) { l.order = append(l.order, r) }

// run tests a rule and notes the result. A rule that is not selected, or does not come to its end, has none.
func (l *ledger) run(t *testing.T, w *world, r rule) {
	t.Run(r.id+" "+r.text, func(t *testing.T) {
		defer func() { // also when the test ends early
			if t.Failed() {
				l.note(r, "FAIL")
			}
		}()
		r.check(t, w)
		l.note(r, "ok")
	})
}

func (l *ledger) note(r rule, result string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result[r.id] = result
}

func (l *ledger) missing() (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.order {
		if l.result[r.id] == "" {
			ids = append(ids, r.id)
		}
	}
	return ids
}

func (l *ledger) table() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "RULE\tRESULT\tWHAT\tFROM")
	count := map[string]int{}
	for _, r := range l.order {
		result := cmp.Or(l.result[r.id], "missing")
		count[result]++
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.id, result, r.text, r.from)
	}
	w.Flush()
	fmt.Fprintf(&text, "%d rules: %d ok, %d failed, %d missing\n", len(l.order), count["ok"], count["FAIL"], count["missing"])
	return text.String()
}

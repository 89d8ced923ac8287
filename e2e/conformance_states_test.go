//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// stateRules are about the state machine.
func stateRules() []rule {
	all := []rule{
		{"S0", "1.5 new prepare, 1.5 new start", "prepare makes a consumer's flow, start a provider's", checkNew},
		{"S1", "1.5 PREPARING, 1.2 prepare, 1.3 prepared", "a flow in PREPARING becomes PREPARED by itself, and says so", checkPreparing},
		{"S2", "1.5 STARTING, 1.2 start, 1.3 started", "a flow in STARTING becomes STARTED by itself, and says so", checkStarting},
		{"S3", "trap 10, 1.2 started", "started is for consumers, prepare and start for one side each", checkSides},
		{"S4", "trap 9, trap 28", "terminate ends a flow that is made ready, and its callback", checkTerminateWhileMadeReady},
		{"S5", "trap 13", "nobody ever sees INITIALIZED", checkInitialized},
		{"S6", "trap 14, trap 55", "suspend cuts a pull before it is answered", checkSuspendCutsPull},
		{"S7", "trap 14", "suspend cuts a push before it is answered", checkSuspendCutsPush},
		{"S8", "trap 7", "a signal whose state is there already changes nothing", checkRepeatedTargets},
	}
	for _, row := range stateTable() {
		all = append(all, row.rule())
	}
	return all
}

// stateRow says what becomes of a flow in a state at each signal: the state it is in afterwards, "=" for the same with 200, "-" for a
// refusal.
type stateRow struct {
	role, state string
	from        string // sources
	want        [7]string
}

// stateSignals are the columns. prepare and start come with the id of the flow and ask for something else.
var stateSignals = [7]string{"prepare", "start", "started", "suspend", "resume", "terminate", "completed"}

func stateTable() []stateRow {
	const table = `
consumer  PREPARING   -  -  -        -          -        TERMINATED  -
consumer  PREPARED    -  -  STARTED  -          -        TERMINATED  -
consumer  STARTED     -  -  =        SUSPENDED  -        TERMINATED  COMPLETED
consumer  RESUMED     -  -  =        SUSPENDED  =        TERMINATED  COMPLETED
consumer  SUSPENDED   -  -  -        =          STARTED  TERMINATED  -
consumer  COMPLETED   -  -  -        -          -        -           =
consumer  TERMINATED  -  -  -        -          -        =           -
provider  STARTING    -  -  -        -          -        TERMINATED  -
provider  STARTED     -  -  -        SUSPENDED  -        TERMINATED  COMPLETED
provider  RESUMED     -  -  -        SUSPENDED  =        TERMINATED  COMPLETED
provider  SUSPENDED   -  -  -        =          STARTED  TERMINATED  -
provider  COMPLETED   -  -  -        -          -        -           =
provider  TERMINATED  -  -  -        -          -        =           -`
	from := map[string]string{
		"PREPARING": "trap 8, trap 9, trap 11", "PREPARED": "1.5 PREPARED, trap 8", "STARTING": "trap 8, trap 9",
		"STARTED": "1.5 STARTED suspend, 1.5 STARTED completed, 1.5 terminate", "RESUMED": "trap 7",
		"SUSPENDED": "1.5 SUSPENDED, trap 7, trap 8",
		"COMPLETED": "1.5 final, trap 7, trap 8", "TERMINATED": "1.5 final, trap 7, trap 8",
	}
	var rows []stateRow
	for line := range strings.Lines(strings.TrimSpace(table)) {
		fields := strings.Fields(line)
		rows = append(rows, stateRow{role: fields[0], state: fields[1], from: from[fields[1]], want: [7]string(fields[2:])})
	}
	return rows
}

func (row stateRow) rule() rule {
	id := "S-" + row.role[:1] + "-" + row.state
	return rule{id, row.from, fmt.Sprintf("what a %s's flow takes that is %s", row.role, row.state), row.check}
}

// check brings a flow into the state for each signal, sends that, and looks at what has become of the flow.
func (row stateRow) check(t *testing.T, w *world) {
	c := w.open(t)
	for i, signal := range stateSignals {
		f := row.reach(c)
		before := f.state()
		want := row.want[i]
		var r reply
		switch signal {
		case "prepare", "start":
			r = c.post(signal, f.create.again().with(message{"agreementId": "other", "dataAddress": nil}))
		default:
			r = c.post(f.id+"/"+signal, nil)
		}
		switch {
		case want == "-":
			if r.code != http.StatusConflict {
				t.Errorf("%s of a flow that is %s: %d %s, not 409", signal, row.state, r.code, r.text)
			}
			f.expect(before)
		case want == "=":
			if r.code != http.StatusOK || r.State != before {
				t.Errorf("%s of a flow that is %s: %d %s, not 200 and %s", signal, row.state, r.code, r.text, before)
			}
			f.expect(before)
		default:
			if r.code != http.StatusOK || r.State != want {
				t.Errorf("%s of a flow that is %s: %d %s, not 200 and %s", signal, row.state, r.code, r.text, want)
			}
			f.expect(want)
		}
		f.end()
	}
}

func (f *flowOf) state() string { f.t.Helper(); return f.status(f.id).State }

// reach returns a flow in the row's state.
func (row stateRow) reach(c *caller) *flowOf {
	c.t.Helper()
	var f *flowOf
	switch {
	case row.state == "PREPARING":
		return c.newHeldPrepare().prepare()
	case row.state == "STARTING":
		return c.newHeldStart().start()
	case row.role == "consumer":
		f = c.newFlow("http-push", "small", nil).prepare()
	default:
		f = c.newFlow("http-pull", "small", nil).start()
	}
	if row.state == "PREPARED" {
		return f
	}
	if row.role == "consumer" {
		f.tell("started", nil)
	}
	for _, signal := range map[string][]string{
		"RESUMED": {"suspend", "resume"}, "SUSPENDED": {"suspend"}, "COMPLETED": {"completed"}, "TERMINATED": {"terminate"},
	}[row.state] {
		f.tell(signal, nil)
	}
	return f
}

// end lets go of a flow, whatever its state.
func (f *flowOf) end() {
	f.t.Helper()
	f.post(f.id+"/terminate", nil)
	f.openGate("")
}

func checkNew(t *testing.T, w *world) {
	c := w.open(t)
	for _, profile := range []string{"http-push", "http-pull"} {
		f := c.newFlow(profile, "small", nil).prepare()
		f.expect("PREPARED")
		if d := f.detail(); d.Role != "consumer" || d.Direction != profile[5:] {
			t.Errorf("%s: %+v", profile, d)
		}
	}
	f := c.newFlow("http-pull", "small", nil).start()
	f.expect("STARTED")
	if d := f.detail(); d.Role != "provider" || d.Direction != "pull" {
		t.Errorf("%+v", d)
	}
	g := c.newFlow("http-push", "endless", newAddress(newReceiver(t).url+"/x")).start()
	g.expect("STARTED")
	if d := g.detail(); d.Role != "provider" || d.Direction != "push" {
		t.Errorf("%+v", d)
	}
	g.tell("terminate", nil)
}

func checkPreparing(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newHeldPrepare().prepare()
	if f.reply.code != http.StatusAccepted || f.reply.State != "PREPARING" || f.reply.DataAddress != nil {
		t.Errorf("%d %s", f.reply.code, f.reply.text)
	}
	f.expect("PREPARING")
	again := c.signal("prepare", f.create)
	if again.code != http.StatusAccepted || again.text != f.reply.text {
		t.Errorf("repeated: %d %s", again.code, again.text)
	}
	f.openGate("")
	f.await("PREPARED")
	said := c.office.expect(t, f.id, "prepared")[0]
	if said.State != "PREPARED" || said.DataAddress == nil || said.Error != "" {
		t.Errorf("callback: %s", said.body)
	}
	f.tell("started", nil)
	f.tell("terminate", nil)
}

func checkStarting(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newHeldStart().start()
	if f.reply.code != http.StatusAccepted || f.reply.State != "STARTING" || f.reply.DataAddress != nil {
		t.Errorf("%d %s", f.reply.code, f.reply.text)
	}
	f.expect("STARTING")
	f.openGate("")
	f.await("STARTED")
	said := c.office.expect(t, f.id, "started")[0]
	if said.State != "STARTED" || said.DataAddress == nil || said.Error != "" {
		t.Errorf("callback: %s", said.body)
	}
	f.tell("terminate", nil)
	// With a dataset, or a profile, that is always asynchronous.
	for _, g := range []*flowOf{c.newFlow("http-pull", "always async", nil), c.newFlow("async-pull", "small", nil)} {
		g.start()
		if g.reply.code != http.StatusAccepted || g.reply.State != "STARTING" {
			t.Errorf("%d %s", g.reply.code, g.reply.text)
		}
		c.expectReads(c.office.expect(t, g.id, "started")[0].DataAddress, http.StatusOK)
		g.expect("STARTED")
	}
}

func checkSides(t *testing.T, w *world) {
	c := w.open(t)
	provider := c.newFlow("http-pull", "small", nil).start()
	c.refuse(http.StatusConflict, provider.id+"/started", nil)
	c.refuse(http.StatusConflict, provider.id+"/started", message{"messageId": newID(), "dataAddress": newAddress("http://127.0.0.1:1/")})
	c.refuse(http.StatusConflict, "prepare", provider.create.again())
	provider.expect("STARTED")
	consumer := c.newFlow("http-pull", "small", nil).prepare()
	c.refuse(http.StatusConflict, "start", consumer.create.again())
	consumer.expect("PREPARED")
}

func checkTerminateWhileMadeReady(t *testing.T, w *world) {
	c := w.open(t)
	for state, f := range c.newHeld() {
		f.expect(state)
		f.tell("terminate", nil)
		f.openGate("")
		f.expect("TERMINATED")
		for _, callback := range f.detail().Callbacks {
			if callback.Status == "pending" || callback.Status == "delivered" {
				t.Errorf("a callback of a flow that was terminated: %+v", callback)
			}
		}
		if calls := c.office.about(f.id); len(calls) > 0 {
			t.Errorf("callbacks about a flow that was terminated: %v", kindsOf(calls))
		}
	}
}

func checkInitialized(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil)
	var started atomic.Bool
	var asking sync.WaitGroup
	asking.Go(func() {
		for !started.Load() {
			r := c.status(f.id) // fails the test if the state is INITIALIZED
			if r.code != http.StatusNotFound && r.State != "STARTED" {
				t.Errorf("%d %s", r.code, r.text)
			}
		}
	})
	f.start()
	started.Store(true)
	asking.Wait()
	f.expect("STARTED")
}

// read reads an address until that ends, in the background. The channel gives the error that it ended with.
func (c *caller) read(a *dataAddress) (begun <-chan struct{}, ended <-chan error) {
	c.t.Helper()
	req := newRequest(c.t, http.MethodGet, a.Endpoint, nil)
	req.Header.Set("Authorization", "Bearer "+a.token())
	resp, err := client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	first, end := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := io.ReadFull(resp.Body, make([]byte, 1))
		close(first)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		end <- err
	}()
	return first, end
}

func checkSuspendCutsPull(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "endless", nil).start()
	address := f.reply.DataAddress
	begun, ended := c.read(address)
	<-begun
	f.tell("suspend", nil)
	c.expectReads(address, http.StatusForbidden)
	if err := <-ended; err == nil {
		t.Error("a client could take what it has for everything")
	}
}

func checkSuspendCutsPush(t *testing.T, w *world) {
	c := w.open(t)
	r := newReceiver(t)
	f := c.newFlow("http-push", "endless", newAddress(r.url+"/x")).start()
	soon(t, "the push runs", func() bool { return len(r.running()) > 0 })
	f.tell("suspend", nil)
	soon(t, "the push has ended", func() bool { return len(r.running()) == 0 })
	f.expect("SUSPENDED")
	f.tell("resume", nil)
	soon(t, "the push runs again", func() bool { return len(r.running()) > 0 })
	f.tell("terminate", nil)
	soon(t, "the push has ended", func() bool { return len(r.running()) == 0 })
}

func checkRepeatedTargets(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	f.tell("suspend", message{"reason": "first"})
	f.tell("suspend", message{"reason": "second"})
	if d := f.detail(); d.Reason != "first" {
		t.Errorf("suspend of a flow that is SUSPENDED has changed the reason to %q", d.Reason)
	}
	resumed := f.tell("resume", nil).DataAddress
	again := f.tell("resume", nil).DataAddress
	if encode(t, again) != encode(t, resumed) {
		t.Error("resume of a flow that was resumed issues another address")
	}
	c.expectReads(resumed, http.StatusOK)
	f.tell("completed", nil)
	f.tell("completed", nil)
	if calls := c.office.about(f.id); len(calls) > 0 {
		t.Errorf("callbacks: %v", kindsOf(calls))
	}
}

//go:build linux

package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// callbackRules are about what a data plane tells its control plane.
func callbackRules() []rule {
	all := []rule{
		{"C1", "1.3 completed, trap 27, 1.5 STARTED completed",
			"a transfer that has ended well completes its flow, and says so once", checkCompletedCallback},
		{"C2", "trap 27", "after completed has come, none goes back", checkNoCompletedBack},
		{"C3", "1.3 errored, trap 25", "errored moves nothing and is said once", checkErrored},
		{"C4", "trap 26, 1.3 errored", "work that fails before an answer can tell is reported, and stays where it is", checkFailedWork},
		{"C5", "trap 23", "a callback is the same at every attempt, and waits for the one before it", checkOutbox},
		{"C6", "trap 28, trap 27", "terminate takes back what was not delivered", checkTerminateWithdraws},
		{"C7", "trap 24", "Retry-After is obeyed", checkRetryAfter},
		{"C8", "trap 24", "a connection that breaks is tried again", func(t *testing.T, w *world) { checkRetried(t, w, 0, 0) }},
		{"C9", "1.2 status, 1.4 DataFlowStatusResponseMessage", "the status says why a flow does not go on", checkFaultInStatus},
		{"C10", "1.2 prepare, 1.3 prepared", "work that ends in time needs no callback", checkSynchronous},
	}
	for _, code := range []int{401, 403, 404, 408, 409, 425, 429, 500, 502, 503} {
		from := "trap 24"
		if code == 401 || code == 409 || code == 500 {
			from += ", edc 3.4 failures, 4.8.9"
		}
		all = append(all, rule{fmt.Sprint("C-", code), from, fmt.Sprintf("a callback that is answered %d is tried again", code),
			func(t *testing.T, w *world) { checkRetried(t, w, code) }})
	}
	for _, code := range []int{400, 410, 422} {
		all = append(all, rule{fmt.Sprint("C-", code), "trap 24", fmt.Sprintf("a callback that is answered %d is given up", code),
			func(t *testing.T, w *world) { checkGivenUp(t, w, code) }})
	}
	return all
}

func checkCompletedCallback(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x")).start()
	said := c.office.expect(t, f.id, "completed")[0]
	if said.State != "COMPLETED" || said.DataAddress != nil || said.Error != "" {
		t.Errorf("%s", said.body)
	}
	f.expect("COMPLETED")
	source := c.newFlow("http-pull", "small", nil).start().reply.DataAddress
	g := c.newFlow("http-pull", "small", nil).prepare()
	g.tell("started", message{"dataAddress": source})
	if said := c.office.expect(t, g.id, "completed")[0]; said.State != "COMPLETED" {
		t.Errorf("%s", said.body)
	}
	f.tell("completed", nil) // as nobody should, and EDC might: it is there already
	c.office.expect(t, f.id, "completed")
}

func checkNoCompletedBack(t *testing.T, w *world) {
	c := w.open(t)
	for _, end := range []string{"completed", "terminate"} {
		receiver := newReceiver(t)
		f := c.newFlow("http-push", "endless", newAddress(receiver.url+"/x")).start()
		soon(t, "the push runs", func() bool { return len(receiver.running()) > 0 })
		f.tell(end, nil)
		soon(t, "the push has ended", func() bool { return len(receiver.running()) == 0 })
		if d := f.detail(); len(d.Callbacks) > 0 {
			t.Errorf("callbacks after %s: %+v", end, d.Callbacks)
		}
	}
}

// refusing is a counterparty that takes nothing until takes is closed.
func refusing(t testing.TB, what string) (url string, takes chan struct{}) {
	takes = make(chan struct{})
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-takes:
		default:
			http.Error(w, what, http.StatusForbidden)
		}
	}), takes
}

func checkErrored(t *testing.T, w *world) {
	c := w.open(t)
	to, takes := refusing(t, "no contract of yours")
	f := c.newFlow("http-push", "small", newAddress(to+"/x")).start()
	said := c.office.expect(t, f.id, "errored")[0]
	if said.State != "STARTED" || !strings.Contains(said.Error, "no contract of yours") || said.DataAddress != nil {
		t.Errorf("%s", said.body)
	}
	f.expect("STARTED")
	if d := f.detail(); d.State != "STARTED" || d.Fault == "" || len(d.Callbacks) != 1 {
		t.Errorf("%+v", d)
	}
	// A control plane can have it tried again.
	close(takes)
	f.tell("suspend", nil)
	f.tell("resume", nil)
	c.office.expect(t, f.id, "errored", "completed")
}

func checkFailedWork(t *testing.T, w *world) {
	c := w.open(t)
	for before, f := range c.newHeld() {
		f.openGate("the vault is locked")
		said := c.office.expect(t, f.id, "errored")[0]
		if said.State != before || !strings.Contains(said.Error, "the vault is locked") {
			t.Errorf("%s", said.body)
		}
		r := f.status(f.id)
		if r.State != before || !strings.Contains(r.Error, "the vault is locked") {
			t.Errorf("status: %s", r.text)
		}
		f.tell("terminate", nil)
		f.expect("TERMINATED")
	}
}

func checkOutbox(t *testing.T, w *world) {
	c := w.open(t)
	to, takes := refusing(t, "not yet")
	f := c.newFlow("http-push", "small", newAddress(to+"/x"))
	c.office.answer("errored", f.id, 503, 503, 0)
	f.start()
	c.office.awaitAttempts(t, "errored", f.id, 1)
	close(takes)
	f.tell("suspend", nil)
	f.tell("resume", nil)
	c.office.expect(t, f.id, "errored", "completed")
	calls := c.office.about(f.id)
	if len(calls) != 5 || calls[4].kind != "completed" {
		t.Fatalf("attempts: %v", kindsOf(calls))
	}
	for _, again := range calls[1:4] {
		if again.body != calls[0].body {
			t.Errorf("another attempt with another message: %s, first %s", again.body, calls[0].body)
		}
	}
	if calls[4].MessageID == calls[0].MessageID {
		t.Error("two callbacks have one messageId")
	}
}

func checkTerminateWithdraws(t *testing.T, w *world) {
	c := w.open(t)
	to, _ := refusing(t, "never")
	f := c.newFlow("http-push", "small", newAddress(to+"/x"))
	c.office.script("errored", f.id, script{code: 503, header: http.Header{"Retry-After": {"3600"}}})
	f.start()
	c.office.awaitAttempts(t, "errored", f.id, 1)
	f.tell("terminate", nil)
	for _, callback := range f.detail().Callbacks {
		if callback.Status == "pending" {
			t.Errorf("%+v", callback)
		}
	}
}

func checkRetryAfter(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("async-pull", "small", nil)
	c.office.script("started", f.id, script{code: 429, header: http.Header{"Retry-After": {"2"}}})
	f.start()
	c.office.expect(t, f.id, "started")
	calls := c.office.about(f.id)
	if gap := calls[1].at.Sub(calls[0].at); gap.Seconds() < 1.9 {
		t.Errorf("it was tried again after %v, not 2 s", gap)
	}
}

func checkRetried(t *testing.T, w *world, codes ...int) {
	c := w.open(t)
	f := c.newFlow("async-pull", "small", nil)
	c.office.answer("started", f.id, codes...)
	f.start()
	c.office.expect(t, f.id, "started")
	if calls := c.office.about(f.id); len(calls) != len(codes)+1 {
		t.Errorf("attempts: %v", kindsOf(calls))
	}
	f.expect("STARTED")
}

func checkGivenUp(t *testing.T, w *world, code int) {
	c := w.open(t)
	f := c.newFlow("async-pull", "small", nil)
	c.office.answer("started", f.id, code)
	f.start()
	soon(t, "the callback is given up", func() bool {
		d := f.detail()
		return len(d.Callbacks) == 1 && d.Callbacks[0].Status == "failed"
	})
	f.expect("STARTED")
	// An operator can have it sent again.
	f.ask(http.MethodPost, "/api/v1/flows/"+f.id+"/retry", nil, &flowDetail{})
	c.office.expect(t, f.id, "started")
}

func checkFaultInStatus(t *testing.T, w *world) {
	c := w.open(t)
	to, _ := refusing(t, "the door is shut")
	f := c.newFlow("http-push", "small", newAddress(to+"/x")).start()
	c.office.expect(t, f.id, "errored")
	if r := f.status(f.id); r.State != "STARTED" || !strings.Contains(r.Error, "the door is shut") {
		t.Errorf("%s", r.text)
	}
	f.tell("terminate", nil)
}

func checkSynchronous(t *testing.T, w *world) {
	c := w.open(t)
	for state, f := range map[string]*flowOf{"PREPARED": c.newHeldPrepare(), "STARTED": c.newHeldStart()} {
		f.openGate("")
		if state == "STARTED" {
			f.start()
		} else {
			f.prepare()
		}
		if f.reply.code != http.StatusOK || f.reply.State != state || f.reply.DataAddress == nil {
			t.Errorf("%d %s", f.reply.code, f.reply.text)
		}
		if d := f.detail(); len(d.Callbacks) > 0 {
			t.Errorf("callbacks: %+v", d.Callbacks)
		}
		f.tell("terminate", nil)
	}
}

//go:build linux

package e2e_test

import (
	"net/http"
	"strings"
	"testing"
)

// lifecycleRules are about tokens through the life of a flow, about restarts, and about legacy matters of time.
func lifecycleRules() []rule {
	return []rule{
		{"F1", "trap 55", "a token works while its flow is STARTED, and a new one takes its place at resume", checkTokenThroughLife},
		{"F2", "trap 55", "terminate and completed end all tokens for good", checkTokenEnds},
		{"F3", "trap 56", "data can be delivered as soon as prepare is answered", checkDeliverBeforeStarted},
		{"F4", "trap 57, 1.3 DELETE dataplanes", "a host that was killed goes on where it was", checkRestart},
		{"F5", "trap 58", "a stream without end stays STARTED until it is told otherwise", checkEndless},
		{"F6", "trap 59", "a host starts without its control plane, and tells health from readiness", checkBoot},
	}
}

func checkTokenThroughLife(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	first := f.reply.DataAddress
	c.expectReads(first, http.StatusOK)
	f.tell("suspend", nil)
	c.expectReads(first, http.StatusUnauthorized, http.StatusForbidden)
	second := f.tell("resume", nil).DataAddress
	c.expectReads(second, http.StatusOK)
	if second.token() == first.token() {
		t.Error("resume has not issued a new token")
	}
	c.expectReads(first, http.StatusUnauthorized, http.StatusForbidden)
}

func checkTokenEnds(t *testing.T, w *world) {
	c := w.open(t)
	for _, end := range []string{"terminate", "completed"} {
		f := c.newFlow("http-pull", "small", nil).start()
		a := f.reply.DataAddress
		c.expectReads(a, http.StatusOK)
		f.tell(end, nil)
		c.expectReads(a, http.StatusUnauthorized, http.StatusForbidden)
		g := c.newFlow("http-push", "small", nil).prepare()
		to := g.reply.DataAddress
		g.tell("started", nil)
		g.tell(end, nil)
		r := c.request(http.MethodPut, to.Endpoint+"/late.txt", to.token(), "late")
		if r.code != http.StatusUnauthorized && r.code != http.StatusForbidden {
			t.Errorf("delivery after %s: %d %s", end, r.code, r.text)
		}
	}
}

func checkDeliverBeforeStarted(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", nil).prepare()
	to := f.reply.DataAddress
	if r := c.request(http.MethodPut, to.Endpoint+"/early.txt", to.token(), "early"); r.code != http.StatusCreated {
		t.Errorf("before started: %d %s", r.code, r.text)
	}
	f.tell("started", nil)
	if r := c.request(http.MethodPut, to.Endpoint+"/then.txt", to.token(), "then"); r.code != http.StatusCreated {
		t.Errorf("after started: %d %s", r.code, r.text)
	}
	if d := f.detail(); d.Parts != 2 {
		t.Errorf("%d parts", d.Parts)
	}
	f.tell("completed", nil)
}

func checkRestart(t *testing.T, w *world) {
	var s site
	o := newOffice(t, nil, nil)
	s.settleOpen(t, "restarted", o)
	s.host.start()
	c := s.caller(t, "connector")

	pull := c.newFlow("http-pull", "small", nil).start()
	suspended := c.newFlow("http-pull", "small", nil).start()
	suspended.tell("suspend", nil)
	preparing := c.newHeldPrepare().prepare()
	starting := c.newHeldStart().start()
	receiver := newReceiver(t)
	push := c.newFlow("http-push", "endless", newAddress(receiver.url+"/x")).start()
	soon(t, "the push runs", func() bool { return len(receiver.running()) > 0 })
	waiting := c.newFlow("async-pull", "small", nil)
	o.answer("started", waiting.id, 503, 503, 503)
	waiting.start()
	o.awaitAttempts(t, "started", waiting.id, 1)

	c.host.kill()
	soon(t, "the push has ended", func() bool { return len(receiver.running()) == 0 })
	s.host.start()

	pull.expect("STARTED")
	c.expectReads(pull.reply.DataAddress, http.StatusOK)
	suspended.expect("SUSPENDED")
	soon(t, "the push runs again", func() bool { return len(receiver.running()) > 0 })
	o.expect(t, waiting.id, "started")
	if r := c.post("start", pull.create); r.text != pull.reply.text {
		t.Errorf("a message is not known any more: %d %s", r.code, r.text)
	}
	preparing.expect("PREPARING")
	starting.expect("STARTING")
	preparing.openGate("")
	starting.openGate("")
	o.expect(t, preparing.id, "prepared")
	o.expect(t, starting.id, "started")
	push.tell("terminate", nil)

	// What an operator has taken back is not made again.
	o.registered(t)
	c.ask(http.MethodPost, "/api/v1/controlplanes/connector/deregister", nil, &struct{}{})
	s.host.stop()
	s.host.start()
	registration := func(method, path string) string {
		var one struct {
			Registration  struct{ Status string }
			ControlPlanes []struct{ Registration struct{ Status string } }
		}
		c.ask(method, path, nil, &one)
		if len(one.ControlPlanes) > 0 {
			return one.ControlPlanes[0].Registration.Status
		}
		return one.Registration.Status
	}
	if got := registration(http.MethodGet, "/api/v1/controlplanes"); got != "deregistered" {
		t.Errorf("after a restart, the registration is %q", got)
	}
	if got := registration(http.MethodPost, "/api/v1/controlplanes/connector/register"); got != "registered" {
		t.Errorf("then it is %q", got)
	}
	s.host.stop()
}

func checkEndless(t *testing.T, w *world) {
	c := w.open(t)
	receiver := newReceiver(t)
	f := c.newFlow("http-push", "endless", newAddress(receiver.url+"/x")).start()
	soon(t, "the push runs", func() bool { return len(receiver.running()) > 0 })
	f.expect("STARTED")
	f.tell("completed", nil)
	soon(t, "the push has ended", func() bool { return len(receiver.running()) == 0 })
	if calls := c.office.about(f.id); len(calls) > 0 {
		t.Errorf("callbacks: %v", kindsOf(calls))
	}
}

func checkBoot(t *testing.T, w *world) {
	var s site
	o := newOffice(t, nil, nil)
	s.offices = map[string]*office{"connector": o}
	boot := strings.Replace(bootConfiguration, "ADDRESS", freeAddress(t), 1)
	s.settle(t, "early", "", listeners("", "")+overHTTP+datasets+boot, "E2E_OFFICE="+o.url)
	s.host.start() // waits until it is ready
	c := s.caller(t, "connector")
	if r := c.ask(http.MethodGet, "/healthz", nil, nil); r.code != http.StatusOK {
		t.Errorf("/healthz: %d %s", r.code, r.text)
	}
	f := c.newFlow("http-pull", "small", nil).start()
	c.expectReads(f.reply.DataAddress, http.StatusOK)
	var list struct {
		ControlPlanes []struct {
			ID           string
			Registration struct{ Status, LastError string }
		}
	}
	soon(t, "an operator sees that the registration fails", func() bool {
		c.ask(http.MethodGet, "/api/v1/controlplanes", nil, &list)
		return len(list.ControlPlanes) == 1 && list.ControlPlanes[0].Registration.LastError != ""
	})
	s.host.stop()
}

const bootConfiguration = `
control_plane "connector" {
  endpoint = env("E2E_OFFICE")

  registration {
    endpoint           = "http://ADDRESS/management"
    deregister_on_stop = true
  }
}
`

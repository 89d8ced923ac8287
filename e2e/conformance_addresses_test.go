//go:build linux

package e2e_test

import (
	"net/http"
	"strings"
	"testing"
)

// addressRules are about data addresses.
func addressRules() []rule {
	return []rule{
		{"A1", "trap 15, 1.2 start", "start has an address for push, and none for pull", checkStartAddress},
		{"A2", "trap 15, 1.2 started",
			"started for push has no address where the profile is strict, and is not led astray by one elsewhere", checkStartedAddressPush},
		{"A3", "trap 15", "started for pull can go without an address where the profile is not strict", checkStartedAddressPull},
		{"A4", "trap 16, 1.2 resume, 1.4 DataFlowResumeMessage",
			"resume goes with and without an address, on both sides and in both directions", checkResumeAddress},
		{"A5", "trap 17, 1.2 prepare, 1.2 start",
			"the side that serves the data has an address in its answer, the other has none", checkAnswerAddress},
		{"A6", "trap 18", "addresses and their properties say what they are, and need not", checkTypes},
		{"A7", "trap 19", "numbers and booleans among the properties are text", checkScalars},
		{"A8", "trap 21", "a bare profile takes any endpointType", checkEndpointTypeIgnored},
		{"A9", "trap 22", "no transfer is led into a private network", checkPrivateTargets},
		{"A10", "trap 22", "an address in started is looked at as closely as one in start", checkPrivateSources},
		{"A11", "trap 7, 4.8.8", "a resumed flow has the endpoint it had", checkSameEndpoint},
	}
}

func checkStartAddress(t *testing.T, w *world) {
	c := w.open(t)
	somewhere := newAddress(newReceiver(t).url + "/x")
	for what, f := range map[string]*flowOf{
		"pull with": c.newFlow("http-pull", "small", somewhere), "push without": c.newFlow("http-push", "small", nil),
	} {
		r := c.refuse(http.StatusBadRequest, "start", f.create)
		if r.Field != "dataAddress" {
			t.Errorf("%s: %s", what, r.text)
		}
		if r := c.status(f.id); r.code != http.StatusNotFound {
			t.Errorf("%s: the flow exists: %s", what, r.text)
		}
	}
	c.newFlow("http-push", "small", somewhere).start()
	f := c.newFlow("http-pull", "small", nil)
	f.create["dataAddress"] = nil // null is nothing
	c.signal("start", encode(t, f.create))
}

func checkStartedAddressPush(t *testing.T, w *world) {
	c := w.strict(t)
	f := c.newFlow(httpPush, "small", nil).prepare()
	r := c.refuse(http.StatusBadRequest, f.id+"/started", message{"messageId": newID(), "dataAddress": f.reply.DataAddress})
	if r.Field != "dataAddress" {
		t.Errorf("%s", r.text)
	}
	f.expect("PREPARED")
	f.tell("started", nil)
	open := w.open(t)
	g := open.newFlow("http-push", "small", nil).prepare()
	to := g.reply.DataAddress
	g.tell("started", message{"dataAddress": newAddress("http://10.1.2.3/")})
	if r := open.request(http.MethodPut, to.Endpoint+"/x", to.token(), "x"); r.code != http.StatusCreated {
		t.Errorf("%d %s", r.code, r.text)
	}
}

func checkStartedAddressPull(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).prepare()
	f.tell("started", nil)
	f.expect("STARTED")
	if r := f.ask(http.MethodGet, "/api/v1/flows/"+f.id+"/address", nil, nil); r.code != http.StatusConflict {
		t.Errorf("the address that nobody has given: %d %s", r.code, r.text)
	}
	// It comes later.
	f.tell("suspend", nil)
	f.tell("resume", message{"dataAddress": c.newFlow("http-pull", "small", nil).start().reply.DataAddress})
	c.office.expect(t, f.id, "completed")
}

func checkResumeAddress(t *testing.T, w *world) {
	c := w.open(t)
	source := c.newFlow("http-pull", "endless", nil).start().reply.DataAddress
	receiver := newReceiver(t)
	flows := map[string]func() *flowOf{
		"provider, pull": func() *flowOf { return c.newFlow("http-pull", "small", nil).start() },
		"provider, push": func() *flowOf { return c.newFlow("http-push", "endless", newAddress(receiver.url+"/x")).start() },
		"consumer, push": func() *flowOf {
			f := c.newFlow("http-push", "small", nil).prepare()
			f.tell("started", nil)
			return f
		},
		"consumer, pull": func() *flowOf {
			f := c.newFlow("http-pull", "small", nil).prepare()
			f.tell("started", message{"dataAddress": source})
			return f
		},
	}
	for what, begin := range flows {
		for _, address := range []*dataAddress{nil, source, newAddress(receiver.url + "/y")} {
			if what == "consumer, pull" && address != nil {
				address = source
			}
			f := begin()
			f.tell("suspend", nil)
			changes := message{}
			if address != nil {
				changes["dataAddress"] = address
			}
			r := f.tell("resume", changes)
			serves := what == "provider, pull" || what == "consumer, push"
			if (r.DataAddress != nil) != serves || r.State != "STARTED" {
				t.Errorf("%s: resume with %v is answered with %s", what, address, r.text)
			}
			f.tell("terminate", nil)
		}
	}
}

func checkAnswerAddress(t *testing.T, w *world) {
	c := w.open(t)
	for what, f := range map[string]*flowOf{
		"prepare for push": c.newFlow("http-push", "small", nil).prepare(),
		"start for pull":   c.newFlow("http-pull", "small", nil).start(),
	} {
		a := f.reply.DataAddress
		if a == nil || a.Endpoint == "" || a.token() == "" {
			t.Errorf("%s: %s", what, f.reply.text)
			continue
		}
		if kind, _ := a.lookup("authType"); kind != "bearer" {
			t.Errorf("%s: authType is %q", what, kind)
		}
	}
	for what, f := range map[string]*flowOf{
		"prepare for pull": c.newFlow("http-pull", "small", nil).prepare(),
		"start for push":   c.newFlow("http-push", "small", newAddress(newReceiver(t).url+"/x")).start(),
	} {
		if strings.Contains(f.reply.text, "dataAddress") {
			t.Errorf("%s: %s", what, f.reply.text)
		}
	}
}

func checkTypes(t *testing.T, w *world) {
	c := w.open(t)
	a := c.newFlow("http-pull", "small", nil).start().reply.DataAddress // its schema was checked
	if len(a.EndpointProperties) == 0 {
		t.Error("no properties")
	}
	f := c.newFlow("http-push", "small", nil)
	f.create["dataAddress"] = message{"endpointType": "HttpData", "endpoint": newReceiver(t).url + "/x",
		"endpointProperties": []any{message{"name": "authorization", "value": "x"}, message{"name": "authType", "value": "bearer"}}}
	f.start()
	g := c.newFlow("http-push", "small", nil)
	g.create["dataAddress"] = message{"endpointType": "HttpData", "endpoint": newReceiver(t).url + "/x", "endpointProperties": nil}
	g.start()
}

func checkScalars(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", nil)
	f.create["dataAddress"] = message{"endpointType": "HttpData", "endpoint": newReceiver(t).url + "/x",
		"endpointProperties": []any{
			message{"name": "expiresIn", "value": 300}, message{"name": "x", "value": true}, message{"name": "y", "value": 1.5}}}
	f.start()
	for what, value := range map[string]any{"object": message{}, "list": []int{1}, "null": nil} {
		g := c.newFlow("http-push", "small", nil)
		g.create["dataAddress"] = message{"endpointType": "HttpData", "endpoint": newReceiver(t).url + "/x",
			"endpointProperties": []any{map[string]any{"name": "x", "value": value}}}
		if r := c.refuse(http.StatusBadRequest, "start", g.create); !strings.HasPrefix(r.Field, "dataAddress.endpointProperties[0]") {
			t.Errorf("%s: %s", what, r.text)
		}
	}
}

func checkEndpointTypeIgnored(t *testing.T, w *world) {
	c := w.open(t)
	for _, kind := range []string{"https://w3id.org/idsa/v4.1/HTTP", "HttpData", "anything"} {
		a := newAddress(newReceiver(t).url + "/x")
		a.EndpointType = kind
		f := c.newFlow("http-push", "small", a).start()
		c.office.expect(t, f.id, "completed")
	}
}

// privateTargets are addresses that only someone behind the data plane should reach.
var privateTargets = []string{
	"http://10.1.2.3/", "http://192.168.0.1/", "http://172.16.0.1:8080/", "http://169.254.169.254/latest/meta-data", "http://[fd00::1]/",
	"http://[fe80::1]/", "http://100.64.0.1/", "http://0.0.0.0/", "http://[::ffff:10.0.0.1]/", "http://0x0a000001/", "http://167772161/",
	"file:///etc/passwd", "gopher://x.example/", "http://user:secret@127.0.0.1/",
}

func checkPrivateTargets(t *testing.T, w *world) {
	c := w.open(t)
	for _, target := range privateTargets {
		f := c.newFlow("http-push", "small", newAddress(target))
		r := c.post("start", f.create)
		switch {
		case r.code == http.StatusBadRequest && strings.HasPrefix(r.Field, "dataAddress"):
		case r.code == http.StatusOK: // it may take a look at the network to find out
			said := c.office.expect(t, f.id, "errored")[0]
			if said.State != "STARTED" {
				t.Errorf("%s: %s", target, said.body)
			}
			f.tell("terminate", nil)
		default:
			t.Errorf("%s: %d %s", target, r.code, r.text)
		}
		if strings.Contains(r.text, "secret") {
			t.Errorf("the answer repeats a password: %s", r.text)
		}
	}
}

func checkPrivateSources(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).prepare()
	for _, target := range privateTargets[:5] {
		r := c.refuse(http.StatusBadRequest, f.id+"/started", message{"messageId": newID(), "dataAddress": newAddress(target)})
		if !strings.HasPrefix(r.Field, "dataAddress") {
			t.Errorf("%s: %s", target, r.text)
		}
	}
	f.expect("PREPARED")
	source := c.newFlow("http-pull", "endless", nil).start().reply.DataAddress
	f.tell("started", message{"dataAddress": source})
	f.tell("suspend", nil)
	c.refuse(http.StatusBadRequest, f.id+"/resume", message{"messageId": newID(), "dataAddress": newAddress(privateTargets[0])})
	f.expect("SUSPENDED")
	f.tell("resume", message{"dataAddress": source})
	f.tell("terminate", nil)
}

func checkSameEndpoint(t *testing.T, w *world) {
	c := w.open(t)
	push := c.newFlow("http-push", "small", nil).prepare()
	prepared := push.reply.DataAddress.Endpoint
	push.tell("started", nil)
	pull := c.newFlow("http-pull", "small", nil).start()
	for f, before := range map[*flowOf]string{push: prepared, pull: pull.reply.DataAddress.Endpoint} {
		f.tell("suspend", nil)
		if r := f.tell("resume", nil); r.DataAddress == nil || r.DataAddress.Endpoint != before {
			t.Errorf("before %s: %s", before, r.text)
		}
	}
}

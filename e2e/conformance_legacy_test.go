//go:build linux

package e2e_test

import (
	"net/http"
	"testing"
)

// legacyRules are about older drafts of the specification.
func legacyRules() []rule {
	return []rule{
		{"L1", "1.9 transferType", "transferType stands for profile, as text or as an object", checkTransferType},
		{"L2", "1.9 status", "GET /dataflows/{id} is the status", checkFormerStatus},
		{"L3", "1.9 start", "POST /dataflows/{id}/start is started", checkFormerStarted},
		{"L4", "1.9 complete", "POST /dataflows/{id}/complete is completed", checkFormerComplete},
		{"L5", "1.9 prefix, 4.8.1", "paths have dataflows once, twice, or not at all", checkPrefixes},
		{"L6", "trap 6, 1.9 messageId, 1.9 claims, trap 36", "messages go without id and without claims", checkBareMessages},
		{"L7", "1.9 resume", "a processId in resume is ignored", checkResumeProcessID},
	}
}

func checkTransferType(t *testing.T, w *world) {
	c := w.open(t)
	for what, kind := range map[string]any{
		"text":       "HttpData-PULL",
		"object":     message{"destinationType": "http", "flowType": "PULL"},
		"lower case": message{"destinationType": "http", "flowType": "pull"},
	} {
		f := c.newFlow("", "small", nil)
		f.create = f.create.with(message{"profile": nil, "transferType": kind})
		if f.start(); f.reply.DataAddress == nil {
			t.Errorf("%s: %s", what, f.reply.text)
		}
	}
	f := c.newFlow("http-pull", "small", nil) // the newer name wins
	f.create["transferType"] = "carrier-pigeon-push"
	f.start()
}

func checkFormerStatus(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", nil).prepare()
	if r := c.send(http.MethodGet, "/dataflows/"+f.id, nil); r.code != http.StatusOK || r.State != "PREPARED" || r.DataFlowID != f.id {
		t.Errorf("%d %s", r.code, r.text)
	}
	if r := c.send(http.MethodGet, "/dataflows/nothing", nil); r.code != http.StatusNotFound {
		t.Errorf("of a flow that is not there: %d %s", r.code, r.text)
	}
}

func checkFormerStarted(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", nil).prepare()
	if r := f.tell("start", nil); r.State != "STARTED" {
		t.Errorf("%s", r.text)
	}
	g := c.newFlow("http-pull", "small", nil).start()
	c.refuse(http.StatusConflict, g.id+"/start", nil)
}

func checkFormerComplete(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	if r := f.tell("complete", nil); r.State != "COMPLETED" {
		t.Errorf("%s", r.text)
	}
}

func checkPrefixes(t *testing.T, w *world) {
	c := w.open(t)
	for _, prefix := range []string{"", "/dataflows", "/dataflows/dataflows"} {
		f := c.newFlow("http-pull", "small", nil)
		for _, step := range []struct {
			method, path string
			body         any
			state        string
		}{
			{http.MethodPost, "/start", f.create, "STARTED"},
			{http.MethodPost, "/" + f.id + "/suspend", "{}", "SUSPENDED"},
			{http.MethodPost, "/" + f.id + "/resume", "{}", "STARTED"},
			{http.MethodGet, "/" + f.id + "/status", nil, "STARTED"},
			{http.MethodPost, "/" + f.id + "/completed", "{}", "COMPLETED"},
		} {
			if r := c.send(step.method, prefix+step.path, step.body); r.code != http.StatusOK || r.State != step.state {
				t.Errorf("%s%s: %d %s", prefix, step.path, r.code, r.text)
			}
		}
	}
}

func checkBareMessages(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil)
	f.create = f.create.with(message{"messageId": nil, "claims": nil})
	f.start()
	if f.reply.MessageID == "" {
		t.Error("the answer has no messageId")
	}
	for _, step := range []struct{ op, body, state string }{
		{"suspend", "{}", "SUSPENDED"}, {"resume", "", "STARTED"}, {"suspend", `{"reason":null}`, "SUSPENDED"},
		{"resume", `{"messageId":null}`, "STARTED"}, {"terminate", "", "TERMINATED"},
	} {
		if r := c.post(f.id+"/"+step.op, step.body); r.code != http.StatusOK || r.State != step.state {
			t.Errorf("%s %q: %d %s", step.op, step.body, r.code, r.text)
		}
	}
	// Without an id, a message is not recognised: start of a flow that exists is refused.
	c.refuse(http.StatusConflict, "start", f.create)
}

func checkResumeProcessID(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	f.tell("suspend", nil)
	f.tell("resume", message{"processId": newID(), "dataFlowId": newID()})
	f.expect("STARTED")
}

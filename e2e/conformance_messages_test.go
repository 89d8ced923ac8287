//go:build linux

package e2e_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// messageRules are about what a message may look like, and what it is answered with.
func messageRules() []rule {
	return []rule{
		{"M1", "trap 1, 1.9 processId", "dataFlowId and processId are one", checkIDs},
		{"M2", "1.4 DataFlowBaseMessage, 1.4 DataFlowPrepareMessage, 1.4 DataFlowStartMessage",
			"a message that lacks something is refused by name", checkRequired},
		{"M3", "trap 3", "any text can be the id of a flow", checkOddIDs},
		{"M4", "trap 3", "some ids are refused", checkBadIDs},
		{"M5", "trap 4", "a message that is repeated has the same answer and no second effect", checkRepeated},
		{"M6", "trap 4", "a message id that is used for something else is refused", checkReused},
		{"M7", "trap 4", "a refusal is repeated too", checkRefusalRepeated},
		{"M8", "trap 5, 1.2 start", "start of a flow that exists is refused", checkStartTwice},
		{"M9", "trap 5, 1.2 prepare", "prepare that asks for what is there has the same answer", checkPrepareTwice},
		{"M10", "trap 5", "prepare that asks for something else is refused", checkPrepareOther},
		{"M11", "trap 39", "members that are not known are ignored", checkUnknownMembers},
		{"M12", "trap 39", "JSON that is not well-formed, or ambiguous, is refused", checkBadJSON},
		{"M13", "trap 39", "a message has an end", checkTooLong},
		{"M14", "trap 39", "the content type can be any for JSON, or missing", checkContentTypes},
		{"M15", "trap 40", "refusals say what is wrong, in one form", checkProblems},
		{"M16", "trap 32, 1.4 DataFlowStatusMessage", "every answer has the id of its flow, and no empty error", checkStatusMessages},
		{"M17", "trap 33, 1.2 started, 1.4 DataFlowStartedNotificationMessage",
			"started is answered with a status message", checkStartedAnswer},
		{"M18", "trap 34, 1.2 completed", "the body of completed does not matter", checkCompletedBody},
		{"M19", "trap 35, 1.8 profiles", "the end of a profile's name is its direction, in any case", checkDirections},
		{"M20", "trap 35", "a profile that is not supported is refused", checkUnknownProfile},
		{"M21", "trap 36", "claims can be null, and stay secret", checkClaims},
		{"M22", "trap 37", "dataspaceContext is opaque", checkDataspaceContext},
		{"M23", "1.2 status, 1.4 DataFlowStatusResponseMessage", "the state of a flow can be asked for", checkStatus},
		{"M24", "1.2 suspend, 1.2 resume, 1.2 terminate, 1.2 completed, 1.2 started, 1.2 status",
			"a flow that does not exist is 404", checkUnknownFlow},
		{"M25", "1.2 suspend, 1.2 terminate, 1.4 DataFlowSuspendMessage",
			"suspend and terminate take a reason, and show it", checkReason},
		{"M26", "trap 22, 1.9 callbackAddress", "a callback address in a message is not called", checkCallbackAddress},
		{"M27", "2.1 metadata", "where the operator allows it, the metadata of a message says what a dataset is", checkDatasetInMessage},
	}
}

func checkIDs(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil)
	for what, ids := range map[string]message{
		"dataFlowId": {"dataFlowId": f.id + "-1", "processId": nil},
		"processId":  {"dataFlowId": nil, "processId": f.id + "-2"},
		"both":       {"dataFlowId": f.id + "-3", "processId": f.id + "-3"},
	} {
		if r := c.signal("start", f.create.again().with(ids)); !strings.HasPrefix(r.DataFlowID, f.id+"-") {
			t.Errorf("%s: %s", what, r.text)
		}
	}
	for what, ids := range map[string]message{
		"neither":   {"dataFlowId": nil},
		"different": {"processId": "other"},
		"empty":     {"dataFlowId": ""},
	} {
		if r := c.refuse(http.StatusBadRequest, "start", f.create.again().with(ids)); r.Field == "" {
			t.Errorf("%s: no field is named: %s", what, r.text)
		}
	}
}

func checkRequired(t *testing.T, w *world) {
	c := w.open(t)
	for _, op := range []string{"start", "prepare"} {
		for _, member := range []string{
			"dataFlowId", "participantId", "counterPartyId", "dataspaceContext", "agreementId", "datasetId", "profile",
		} {
			for what, value := range map[string]any{"missing": nil, "empty": "", "number": 7, "object": message{}} {
				r := c.refuse(http.StatusBadRequest, op, c.newFlow("http-pull", "small", nil).create.with(message{member: value}))
				if r.Field != member {
					t.Errorf("%s, %s %s: the field is %q: %s", op, member, what, r.Field, r.text)
				}
			}
		}
		for member, value := range map[string]any{"claims": "x", "metadata": []string{}, "labels": "x"} {
			c.refuse(http.StatusBadRequest, op, c.newFlow("http-pull", "small", nil).create.with(message{member: value}))
		}
	}
	f := c.newFlow("http-push", "small", newAddress("http://127.0.0.1:1/"))
	r := c.refuse(http.StatusBadRequest, "start", f.create.with(message{"dataAddress": message{"endpoint": "http://127.0.0.1:1/"}}))
	if r.Field != "dataAddress.endpointType" {
		t.Errorf("an address without endpointType: the field is %q", r.Field)
	}
}

// oddIDs are ids that have to survive a path.
var oddIDs = []string{
	"urn:uuid:5f0c", "a/b", "a%2Fb", "ü & ? # +", "..a", "'\"<>", "dataflows", "start", "status", strings.Repeat("x", 250),
}

func checkOddIDs(t *testing.T, w *world) {
	c := w.open(t)
	for _, id := range oddIDs {
		f := c.newFlow("async-pull", "endless", nil)
		f.id = id + newID()[:6]
		f.create["dataFlowId"] = f.id
		f.start()
		if f.reply.code != http.StatusAccepted {
			t.Errorf("%q: %d", id, f.reply.code)
			continue
		}
		at := c.request(http.MethodGet, c.base+f.reply.header.Get("Location"), "", "")
		if at.code != http.StatusOK {
			t.Errorf("%q is not found at its Location %s: %d", id, f.reply.header.Get("Location"), at.code)
		}
		called := c.office.expect(t, f.id, "started")[0]
		if want := "/transfers/" + url.PathEscape(f.id) + "/dataflow/started"; called.path != want {
			t.Errorf("the callback went to %s, not %s", called.path, want)
		}
		c.expectReads(called.DataAddress, http.StatusOK)
		f.path("suspend")
		f.path("resume")
		f.path("terminate")
		if r := c.status(f.id); r.State != "TERMINATED" {
			t.Errorf("%q: %s", id, r.text)
		}
	}
}

// path sends a signal to the flow whose id has to be escaped.
func (f *flowOf) path(op string) {
	f.t.Helper()
	f.signal(url.PathEscape(f.id)+"/"+op, nil)
}

func checkBadIDs(t *testing.T, w *world) {
	c := w.open(t)
	for what, id := range map[string]string{
		"too long": strings.Repeat("x", 257), "newline": "a\nb", "nul": "a\x00", "dot": ".", "dots": "..", "empty": "", "escape": "a\x1b[0m",
	} {
		f := c.newFlow("http-pull", "small", nil)
		c.refuse(http.StatusBadRequest, "start", f.create.with(message{"dataFlowId": id}))
		if id == "" || id == "." || id == ".." {
			continue // what a path with them means is for the HTTP client to decide
		}
		r := c.send(http.MethodGet, "/dataflows/"+url.PathEscape(id)+"/status", nil)
		if r.code != http.StatusBadRequest {
			t.Errorf("%s, in a path: %d %s", what, r.code, r.text)
		}
	}
	for _, path := range []string{
		"/dataflows/%2e%2e/status", "/dataflows/%2e/status", "/dataflows/..%2f..%2fetc/status", "/dataflows//status",
	} {
		if r := c.send(http.MethodGet, path, nil); r.code != http.StatusBadRequest && r.code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, r.code, r.text)
		}
	}
}

func checkRepeated(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	first := f.reply
	same := func(path string, m any, want reply) {
		t.Helper()
		if got := c.post(path, m); got.code != want.code || got.text != want.text {
			t.Errorf("%s repeated: %d %s, not %d %s", path, got.code, got.text, want.code, want.text)
		}
	}
	same("start", f.create, first)
	// The same members in another order and layout are the same message.
	reordered := `{ "metadata": null,` + strings.TrimPrefix(encode(t, f.create.with(message{"metadata": nil})), "{")
	if got := c.post("start", strings.Replace(reordered, `"metadata": null,`, "", 1)); got.text != first.text {
		t.Errorf("with white space: %d %s", got.code, got.text)
	}
	c.expectReads(first.DataAddress, http.StatusOK) // no new token took its place
	suspend := message{"messageId": newID(), "reason": "lunch"}
	suspended := c.signal(f.id+"/suspend", suspend)
	resume := message{"messageId": newID()}
	resumed := c.signal(f.id+"/resume", resume)
	same(f.id+"/suspend", suspend, suspended) // of long ago: it must not stop the flow again
	f.expect("STARTED")
	same(f.id+"/resume", resume, resumed)
	c.expectReads(resumed.DataAddress, http.StatusOK)
	same("start", f.create, first)
	c.expectReads(resumed.DataAddress, http.StatusOK)
}

func checkReused(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	c.refuse(http.StatusConflict, "start", f.create.with(message{"agreementId": "other"}))
	c.refuse(http.StatusConflict, f.id+"/suspend", message{"messageId": f.create["messageId"]})
	f.expect("STARTED")
	m := message{"messageId": newID(), "reason": "a"}
	c.signal(f.id+"/suspend", m)
	c.refuse(http.StatusConflict, f.id+"/suspend", m.with(message{"reason": "b"}))
	// Ids are those of one flow: another one may use the same.
	other := c.newFlow("http-pull", "small", nil)
	other.create["messageId"] = f.create["messageId"]
	other.start()
}

func checkRefusalRepeated(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	early := message{"messageId": newID()}
	c.refuse(http.StatusConflict, f.id+"/resume", early)
	f.tell("suspend", nil)
	// It was refused once, so whoever sent it has given up on it.
	c.refuse(http.StatusConflict, f.id+"/resume", early)
	f.expect("SUSPENDED")
	f.tell("resume", nil)
}

func checkStartTwice(t *testing.T, w *world) {
	c := w.open(t)
	for _, address := range []*dataAddress{nil, newAddress(newReceiver(t).url + "/x")} {
		profile := "http-pull"
		if address != nil {
			profile = "http-push"
		}
		f := c.newFlow(profile, "endless", address).start()
		c.refuse(http.StatusConflict, "start", f.create.again())
		c.refuse(http.StatusConflict, "prepare", f.create.again().with(message{"dataAddress": nil}))
		if f.reply.DataAddress != nil {
			c.expectReads(f.reply.DataAddress, http.StatusOK)
		}
		f.tell("terminate", nil)
		c.refuse(http.StatusConflict, "start", f.create.again())
	}
}

func checkPrepareTwice(t *testing.T, w *world) {
	c := w.open(t)
	for _, profile := range []string{"http-push", "http-pull"} {
		f := c.newFlow(profile, "small", nil).prepare()
		again := c.signal("prepare", f.create.again())
		if again.State != "PREPARED" || encode(t, again.DataAddress) != encode(t, f.reply.DataAddress) {
			t.Errorf("%s: %s, first %s", profile, again.text, f.reply.text)
		}
	}
}

func checkPrepareOther(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", nil).prepare()
	for member, value := range map[string]string{
		"agreementId": "other", "datasetId": "endless", "profile": "http-pull", "counterPartyId": "other", "participantId": "other",
	} {
		c.refuse(http.StatusConflict, "prepare", f.create.again().with(message{member: value}))
	}
	f.tell("started", nil)
	c.refuse(http.StatusConflict, "prepare", f.create.again())
}

func checkUnknownMembers(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "endless", nil)
	f.create = f.create.with(message{
		"@context": "https://w3id.org/dspace", "@type": "DataFlowStartMessage", "futureMember": message{"deep": []any{1, nil, true}},
		"dataAddress": message{"@type": "DataAddress", "endpointType": "HttpData", "endpoint": newReceiver(t).url + "/x", "future": 1,
			"endpointProperties": []any{message{"name": "a", "value": "b", "future": true}}},
	})
	f.start()
	f.tell("suspend", message{"future": 1})
	f.tell("terminate", message{"future": nil})
}

func checkBadJSON(t *testing.T, w *world) {
	c := w.open(t)
	good := encode(t, c.newFlow("http-pull", "small", nil).create)
	for what, body := range map[string]string{
		"nothing": "", "blank": " \n", "no object": "[]", "text": `"x"`, "null": "null", "cut": good[:len(good)-1], "trailing": good + "}",
		"two": good + good, "twice": `{"messageId":"1",` + good[1:],
		"twice, nested": strings.Replace(good, `"claims":{}`, `"claims":{"a":1,"a":2}`, 1),
		"not UTF-8":     strings.Replace(good, `"e2e"`, "\"\xff\"", 1), "comment": "/**/" + good, "NaN": strings.Replace(good, "{}", "NaN", 1),
		"deep": strings.Replace(good, "{}", strings.Repeat(`{"a":`, 20000)+"1"+strings.Repeat("}", 20000), 1),
	} {
		if r := c.refuse(http.StatusBadRequest, "start", body); strings.Contains(r.Detail, "\xff") {
			t.Errorf("%s: %s", what, r.text)
		}
	}
}

func checkTooLong(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil)
	c.refuse(http.StatusRequestEntityTooLarge, "start", f.create.with(message{"metadata": message{"x": strings.Repeat("x", 1<<20)}}))
	f.create["metadata"] = message{"x": strings.Repeat("x", 900<<10)}
	f.start()
}

func checkContentTypes(t *testing.T, w *world) {
	c := w.open(t)
	for _, media := range []string{
		"", "application/json", "application/json; charset=utf-8", "application/ld+json", "APPLICATION/JSON", "text/json",
	} {
		r := c.sendAs(http.MethodPost, "/dataflows/start", encode(t, c.newFlow("http-pull", "small", nil).create), media)
		if r.code != http.StatusOK {
			t.Errorf("content type %q: %d %s", media, r.code, r.text)
		}
	}
	for _, media := range []string{"text/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		r := c.sendAs(http.MethodPost, "/dataflows/start", encode(t, c.newFlow("http-pull", "small", nil).create), media)
		if r.code != http.StatusUnsupportedMediaType {
			t.Errorf("content type %q: %d %s", media, r.code, r.text)
		}
	}
}

func checkDatasetInMessage(t *testing.T, w *world) {
	c := w.open(t)
	described := func(source message) message {
		return message{"metadata": message{"towpathDataset": message{"source": source}}}
	}
	generated := message{"@type": "DataAddress", "endpointType": "Generate", "endpointProperties": []message{
		{"@type": "EndpointProperty", "name": "size", "value": "3KiB"}}}
	f := c.newFlow("inline-pull", "declared nowhere", nil)
	r := c.signal("start", f.create.with(described(generated)))
	if got := c.request(http.MethodGet, r.DataAddress.Endpoint, r.DataAddress.token(), ""); len(got.text) != 3<<10 {
		t.Errorf("%d bytes came", len(got.text))
	}
	for what, m := range map[string]message{
		"nothing":            {},
		"another type":       described(message{"endpointType": "NoSuchType"}),
		"no address":         described(message{"endpoint": "https://there.example"}),
		"a wrong property":   described(message{"endpointType": "Generate", "endpointProperties": []message{{"name": "size", "value": "many"}}}),
		"no object":          {"metadata": message{"towpathDataset": "small"}},
		"a sink, to provide": {"metadata": message{"towpathDataset": message{"sink": message{"endpointType": "Discard"}}}},
	} {
		if r := c.post("start", c.newFlow("inline-pull", "declared nowhere", nil).create.with(m)); r.code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
	}
	c.refuse(http.StatusBadRequest, "start", c.newFlow("http-pull", "declared nowhere", nil).create.with(described(generated)))
	// What the operator declares goes before it.
	r = c.signal("start", c.newFlow("inline-pull", "small", nil).create.with(described(generated)))
	if got := c.request(http.MethodGet, r.DataAddress.Endpoint, r.DataAddress.token(), ""); len(got.text) != 1<<10 {
		t.Errorf("%d bytes came of a dataset that is declared", len(got.text))
	}
}

func checkProblems(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	for what, r := range map[string]reply{
		"wrong-state":        c.refuse(http.StatusConflict, f.id+"/resume", nil),
		"no-such-flow":       c.refuse(http.StatusNotFound, "nothing/resume", nil),
		"no-such-endpoint":   c.refuse(http.StatusNotFound, f.id+"/explode", nil),
		"invalid-message":    c.refuse(http.StatusBadRequest, "start", message{}),
		"message-reused":     c.refuse(http.StatusConflict, "start", f.create.with(message{"labels": []string{"x"}})),
		"method-not-allowed": c.send(http.MethodGet, "/dataflows/start", nil),
	} {
		if r.Type != "urn:towpath:problem:"+what || r.Detail == "" {
			t.Errorf("%s: %s", what, r.text)
		}
		for _, inside := range []string{c.host.data, c.host.config, "goroutine", ".go:", "sql"} {
			if strings.Contains(strings.ToLower(r.text), strings.ToLower(inside)) {
				t.Errorf("%s tells of the inside: %s", what, r.text)
			}
		}
	}
	if r := c.refuse(http.StatusConflict, f.id+"/resume", nil); r.State != "STARTED" || r.DataFlowID != f.id {
		t.Errorf("a refusal by state names neither flow nor state: %s", r.text)
	}
}

func checkStatusMessages(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", nil).prepare()
	prepared := f.reply
	all := []reply{prepared, f.tell("started", nil), f.tell("suspend", nil), f.tell("resume", nil), f.tell("terminate", nil), c.status(f.id)}
	ids := map[string]bool{}
	for _, r := range all {
		if r.DataFlowID != f.id || strings.Contains(r.text, `"error"`) || strings.Contains(r.text, "null") {
			t.Errorf("%s", r.text)
		}
		if ids[r.MessageID] {
			t.Errorf("the messageId is that of another answer: %s", r.text)
		}
		ids[r.MessageID] = r.MessageID != ""
	}
}

func checkStartedAnswer(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", nil).prepare()
	if r := f.tell("started", nil); r.State != "STARTED" || r.DataAddress != nil {
		t.Errorf("%s", r.text)
	}
}

func checkCompletedBody(t *testing.T, w *world) {
	c := w.open(t)
	for what, body := range map[string]any{
		"nothing": nil, "object": "{}", "message": message{"messageId": newID()}, "text": "no JSON at all", "twice": `{"a":1,"a":2}`,
		"long": strings.Repeat("x", 200<<10),
	} {
		f := c.newFlow("http-pull", "small", nil).start()
		media := "application/json"
		if what == "text" {
			media = "text/plain"
		}
		r := c.sendAs(http.MethodPost, "/dataflows/"+f.id+"/completed", body, media)
		if r.code != http.StatusOK || r.State != "COMPLETED" {
			t.Errorf("%s: %d %s", what, r.code, r.text)
		}
	}
}

func checkDirections(t *testing.T, w *world) {
	c := w.open(t)
	for _, profile := range []string{"http-pull", "HttpData-PULL", "HttpData-PULL-HttpData"} {
		if f := c.newFlow(profile, "small", nil).start(); f.reply.DataAddress == nil {
			t.Errorf("%s is no pull: %s", profile, f.reply.text)
		}
	}
	for _, profile := range []string{"http-push", "HttpData-PUSH"} {
		if f := c.newFlow(profile, "small", nil).prepare(); f.reply.DataAddress == nil {
			t.Errorf("%s is no push: %s", profile, f.reply.text)
		}
	}
}

func checkUnknownProfile(t *testing.T, w *world) {
	c := w.open(t)
	for _, op := range []string{"start", "prepare"} {
		r := c.refuse(http.StatusBadRequest, op, c.newFlow("carrier-pigeon-push", "small", nil).create)
		if r.Field != "profile" || !strings.Contains(r.Detail, "carrier-pigeon-push") {
			t.Errorf("%s: %s", op, r.text)
		}
		f := c.newFlow("http-pull", "atlantis", nil)
		if op == "prepare" { // for pull, a consumer need not have heard of what it gets
			f.create["profile"] = "http-push"
		}
		r = c.refuse(http.StatusBadRequest, op, f.create)
		if r.Field != "datasetId" || !strings.Contains(r.Detail, "atlantis") {
			t.Errorf("%s: %s", op, r.text)
		}
	}
}

func checkClaims(t *testing.T, w *world) {
	c := w.open(t)
	name := "Ada-" + newID()
	w.keep("claim", name)
	for _, claims := range []any{"null", "{}", `{"name":"` + name + `","roles":["x"]}`} {
		f := c.newFlow("http-pull", "small", nil)
		r := c.post("start", strings.Replace(encode(t, f.create), `"claims":{}`, `"claims":`+claims.(string), 1))
		if r.code != http.StatusOK {
			t.Errorf("claims %s: %d %s", claims, r.code, r.text)
		}
		if d := c.ask(http.MethodGet, "/api/v1/flows/"+f.id, nil, nil); strings.Contains(d.text, name) {
			t.Errorf("the admin API shows a claim: %s", d.text)
		}
	}
}

func checkDataspaceContext(t *testing.T, w *world) {
	c := w.open(t)
	for _, value := range []string{"dataspace-protocol-http:2025-1", "https://dataspace.example/#x", "{}", "ü"} {
		f := c.newFlow("http-pull", "small", nil)
		f.create["dataspaceContext"] = value
		f.start()
	}
}

func checkStatus(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-push", "small", nil).prepare()
	f.expect("PREPARED")
	for _, step := range []struct{ op, state string }{
		{"started", "STARTED"}, {"suspend", "SUSPENDED"}, {"resume", "STARTED"}, {"completed", "COMPLETED"},
	} {
		if r := f.tell(step.op, nil); r.State != step.state {
			t.Errorf("%s is answered with %s", step.op, r.text)
		}
		f.expect(step.state)
	}
	if r := c.send(http.MethodHead, "/dataflows/"+f.id+"/status", nil); r.code != http.StatusOK || r.text != "" {
		t.Errorf("HEAD: %d %q", r.code, r.text)
	}
}

func checkUnknownFlow(t *testing.T, w *world) {
	c := w.open(t)
	for _, op := range []string{"started", "suspend", "resume", "terminate", "completed"} {
		if r := c.refuse(http.StatusNotFound, "nothing/"+op, nil); r.Type != "urn:towpath:problem:no-such-flow" {
			t.Errorf("%s: %s", op, r.text)
		}
	}
	if r := c.status("nothing"); r.code != http.StatusNotFound {
		t.Errorf("status: %d %s", r.code, r.text)
	}
}

func checkReason(t *testing.T, w *world) {
	c := w.open(t)
	f := c.newFlow("http-pull", "small", nil).start()
	for _, op := range []string{"suspend", "terminate"} {
		f.tell(op, message{"reason": "because of " + op})
		if d := f.detail(); d.Reason != "because of "+op {
			t.Errorf("after %s the operator sees %q", op, d.Reason)
		}
	}
	for _, reason := range []any{7, message{}, []string{"x"}} {
		c.refuse(http.StatusBadRequest, f.id+"/terminate", message{"messageId": newID(), "reason": reason})
	}
}

func checkCallbackAddress(t *testing.T, w *world) {
	c := w.open(t)
	elsewhere := newOffice(t, nil, nil)
	f := c.newFlow("async-pull", "small", nil)
	f.create["callbackAddress"] = elsewhere.url
	f.start()
	c.office.expect(t, f.id, "started")
	if calls := elsewhere.those(func(call) bool { return true }); len(calls) > 0 {
		t.Errorf("the callback address was called: %+v", calls)
	}
	r := newReceiver(t)
	g := c.newFlow("http-push", "small", newAddress(r.url+"/x"))
	g.create["callbackAddress"] = nil
	g.start()
	c.office.expect(t, g.id, "completed")
}

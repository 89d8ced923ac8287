//go:build linux

package e2e_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// answeredSource is the address of a source whose asset takes answers at the web server.
func (w *edcWorld) answeredSource(c *connector, p *transferProcess) message {
	source := c.address("HttpData", "baseUrl", w.web.url+"/"+p.id, "method", "GET")
	list := source["dspace:endpointProperties"].([]any)
	source["dspace:endpointProperties"] = append(list, message{"@type": "dspace:EndpointProperty", "dspace:name": edcNames + "responseChannel",
		"dspace:value": c.address("HttpData", "baseUrl", w.web.url+"/answers/"+p.id)})
	return source
}

// say sends an answer on the response channel of an address as EDC's clients do, and expects a status.
func (a edr) say(t *testing.T, content string, want int) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, a["responseChannel-endpoint"], strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", a["responseChannel-authorization"])
	r.Header.Set("Content-Type", "text/plain")
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != want {
		t.Errorf("answer %q: %d %s %v, want %d", content, response.StatusCode, text, err, want)
	}
}

func (w *edcWorld) expectAnswer(t *testing.T, p *transferProcess, want string) {
	t.Helper()
	if got, _ := w.web.received("/answers/" + p.id); got != want {
		t.Errorf("the asset has the answer %q, want %q", got, want)
	}
}

func tellEDCAnsweredPull(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("answered-pull", 0)
	x := edcTransfer{flow: "PULL", response: "HttpData", asset: "asset", source: w.answeredSource(c, p)}
	first := p.start(x)
	first.expect(t, http.StatusOK, "content of /"+p.id)
	if first["responseChannel-endpointType"] == "" || first["responseChannel-authType"] != "bearer" || first["responseChannel-endpoint"] == first["endpoint"] {
		t.Errorf("%v", first)
	}
	first.say(t, "first", http.StatusCreated)
	w.expectAnswer(t, p, "first")
	p.suspend()
	first.say(t, "while it is suspended", http.StatusServiceUnavailable) // and may come again
	second := p.start(x)
	if second["responseChannel-authorization"] == first["responseChannel-authorization"] {
		t.Error("the second start has the token of the first one")
	}
	first.say(t, "with the token of the first start", http.StatusForbidden)
	p.terminate()
	second.say(t, "after the end", http.StatusGone)
	w.expectAnswer(t, p, "first")
}

// The consumer of a push may answer for as long as it goes on, and is told of nothing but where.
func tellEDCAnsweredPush(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("answered-push", 1)
	held := make(chan struct{})
	at := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
			w.web.answer(rw, r)
		case <-r.Context().Done():
		}
	})
	given := p.start(edcTransfer{flow: "PUSH", response: "HttpData", asset: "asset", source: w.answeredSource(c, p),
		destination: c.address("HttpData", "baseUrl", at+"/in/"+p.id)})
	for name := range given {
		if name != "provisioning" && !strings.HasPrefix(name, "responseChannel-") {
			t.Errorf("a push gives %s", name)
		}
	}
	given.say(t, "received", http.StatusCreated)
	w.expectAnswer(t, p, "received")
	close(held)
	p.await("COMPLETED")
	given.say(t, "late", http.StatusGone)
	if body, _ := w.web.received("/in/" + p.id); body != "content of /"+p.id {
		t.Errorf("the consumer has %q", body)
	}
}

//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// edcConfiguration is a host's for EDC's control planes. The sources' addresses come with their messages.
const edcConfiguration = `
profile "HttpData-PULL" {}

profile "HttpData-PUSH" {
  allow_http = true
}
`

// edcWorld is where an EDC story plays: a data plane, connectors of all dialects that it serves at once, beside its control plane that speaks
// Data Plane Signaling; and an HTTP server with what is transferred.
type edcWorld struct {
	host       *host
	connectors []*connector
	web        *web
}

func newEDCWorld(t *testing.T) *edcWorld {
	w := &edcWorld{web: newWeb(t)}
	blocks := edcConfiguration
	for _, d := range dialects {
		c := newConnector(t, d)
		w.connectors = append(w.connectors, c)
		blocks += c.block() + edcDatasets(c)
	}
	w.host = newHost(t, "provider", blocks)
	return w
}

// edcDatasets are where the data plane keeps what it is sent for the consumers of a connector: at once, and after some time.
func edcDatasets(c *connector) string {
	return fmt.Sprintf(`
dataset "in-%[1]s" {
  sink "File" {
    path = "in-%[1]s"
  }
}

dataset "slow-%[1]s" {
  mode = "async"

  sink "File" {
    path = "slow-%[1]s"
  }
}
`, c.id)
}

// web is an HTTP server: things to be fetched by GET, and what others are sent by POST or PUT. What is behind a gate waits for it.
type web struct {
	url  string
	gate chan struct{} // closed when it is open

	mu      sync.Mutex // guards what follows
	got     map[string]string
	headers map[string]http.Header
}

func newWeb(t testing.TB) *web {
	w := &web{gate: make(chan struct{}), got: map[string]string{}, headers: map[string]http.Header{}}
	w.url = serve(t, w.answer)
	return w
}

func (w *web) answer(rw http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/missing"):
		http.NotFound(rw, r)
	case r.Method == http.MethodGet:
		io.WriteString(rw, "content of "+r.URL.Path)
	default:
		if strings.HasPrefix(r.URL.Path, "/gated") {
			select {
			case <-w.gate:
			case <-r.Context().Done():
				return
			}
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.got[r.URL.Path], w.headers[r.URL.Path] = string(body), r.Header
	}
}

// received returns what was sent to a path, by names that begin with it: a sink may add the name of the part.
func (w *web) received(path string) (body string, header http.Header) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at, body := range w.got {
		if strings.HasPrefix(at, path) {
			return body, w.headers[at]
		}
	}
	return "", nil
}

// edcStory is something that happens with a connector, in each dialect that has it.
type edcStory struct {
	name string
	has  func(dialect) bool // nil: all
	tell func(t *testing.T, w *edcWorld, c *connector)
}

// edcStories are told of every dialect. What needs a dialect's oddities is in dialect.
var edcStories = []edcStory{
	{"registration", nil, tellEDCRegistration},
	{"push", nil, tellEDCPush},
	{"pull", nil, tellEDCPull},
	{"suspend and start again", nil, tellEDCSuspend},
	{"suspend and start a push again", nil, tellEDCSuspendedPush},
	{"terminate", nil, tellEDCTerminate},
	{"failure", nil, tellEDCFailure},
	{"start that comes twice", nil, tellEDCStartTwice},
	{"prepare", func(d dialect) bool { return d.provisions }, tellEDCPrepare},
	{"prepare that takes its time", func(d dialect) bool { return d.provisions }, tellEDCPrepareSlowly},
}

func TestEDC(t *testing.T) {
	t.Parallel()
	w := newEDCWorld(t)
	w.host.start()
	t.Run("stories", func(t *testing.T) {
		for _, c := range w.connectors {
			for _, s := range edcStories {
				if s.has != nil && !s.has(c.dialect) {
					continue
				}
				t.Run(c.dialect.name+"/"+s.name, func(t *testing.T) {
					t.Parallel()
					s.tell(t, w, c.in(t))
				})
			}
		}
		t.Run("Data Plane Signaling", func(t *testing.T) {
			t.Parallel()
			writeFile(t, w.host.outbox()+"/a", "beside EDC")
			a := w.host.signal("start", creation("dps", "http-pull", "tree", nil)).DataAddress
			if code, text, err := fetch(a.Endpoint+"/parts/a", a.token()); code != http.StatusOK || text != "beside EDC" || err != nil {
				t.Errorf("%d %q %v", code, text, err)
			}
		})
	})
	w.host.stop()
	for _, c := range w.connectors {
		if c.mu.Lock(); c.plane != nil {
			t.Errorf("the data plane is still registered with %s", c.id)
		}
		c.mu.Unlock()
	}
}

func tellEDCRegistration(t *testing.T, w *edcWorld, c *connector) {
	p := c.awaitPlane()
	if want := w.host.signaling + "/edc/" + c.id + "/v1/dataflows"; p.URL != want || p.ID != "e2e" {
		t.Errorf("%s at %s, want %s", p.ID, p.URL, want)
	}
	if !slices.Equal(p.TransferTypes, []string{"HttpData-PULL", "HttpData-PUSH"}) || !slices.Equal(p.ProvisionTypes, []string{"HttpData"}) {
		t.Errorf("transfer types %v, provision types %v", p.TransferTypes, p.ProvisionTypes)
	}
	for _, kind := range []string{"AmazonS3", "File", "HttpData", "Kafka"} {
		if !slices.Contains(p.SourceTypes, kind) {
			t.Errorf("no %s among the source types %v", kind, p.SourceTypes)
		}
	}
}

func tellEDCPush(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("push", 2)
	given := p.start(edcTransfer{flow: "PUSH", asset: "asset", source: c.address("HttpData", "baseUrl", w.web.url+"/"+p.id),
		destination: c.address("HttpData", "baseUrl", w.web.url+"/in/"+p.id, "header:X-Tenant", "a")})
	if given["endpoint"] != "" {
		t.Errorf("a push gives %v", given)
	}
	if now := p.await("COMPLETED"); now.leased != 0 || len(now.said) != 1 {
		t.Errorf("%+v", now)
	}
	if body, header := w.web.received("/in/" + p.id); body != "content of /"+p.id || header.Get("X-Tenant") != "a" {
		t.Errorf("the consumer has %q with %v", body, header)
	}
	p.expectPlaneState("COMPLETED")
	p.terminate() // as the control plane does when the counterparty has completed it too
}

func (w *edcWorld) pull(c *connector, p *transferProcess) edcTransfer {
	return edcTransfer{flow: "PULL", asset: "asset", source: c.address("HttpData", "baseUrl", w.web.url+"/"+p.id)}
}

func tellEDCPull(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("pull", 0)
	given := p.start(w.pull(c, p))
	if given["endpointType"] != "https://w3id.org/idsa/v4.1/HTTP" || given["authType"] != "bearer" || given["provisioning"] != "false" {
		t.Errorf("%v", given)
	}
	given.expect(t, http.StatusOK, "content of /"+p.id)
	if code, text, err := fetch(given["endpoint"], given["authorization"]); code != http.StatusOK || err != nil { // Bearer
		t.Errorf("%d %s %v", code, text, err)
	}
	edr{"endpoint": given["endpoint"], "authorization": "x"}.expect(t, http.StatusUnauthorized, "")
	p.expectPlaneState("STARTED")
	p.terminate()
	given.expect(t, http.StatusForbidden, "")
}

func tellEDCSuspend(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("suspend", 0)
	first := p.start(w.pull(c, p))
	first.expect(t, http.StatusOK, "")
	p.suspend()
	p.suspend()
	first.expect(t, http.StatusForbidden, "")
	p.expectPlaneState("SUSPENDED")
	second := p.start(w.pull(c, p))
	if second["authorization"] == first["authorization"] {
		t.Error("the token is the one that was suspended")
	}
	second.expect(t, http.StatusOK, "content of /"+p.id)
	first.expect(t, http.StatusForbidden, "")
	p.terminate()
}

func tellEDCSuspendedPush(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("held", 0)
	x := edcTransfer{flow: "PUSH", asset: "asset", source: c.address("HttpData", "baseUrl", w.web.url+"/"+p.id),
		destination: c.address("HttpData", "baseUrl", w.web.url+"/held/"+p.id)}
	held := make(chan struct{})
	x.destination = c.address("HttpData", "baseUrl", serve(t, func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
		w.web.answer(rw, r)
	})+"/held/"+p.id)
	p.start(x)
	p.suspend()
	close(held)
	if body, _ := w.web.received("/held/" + p.id); body != "" {
		t.Errorf("sent while it was suspended: %q", body)
	}
	p.start(x)
	p.await("COMPLETED")
	if body, _ := w.web.received("/held/" + p.id); body != "content of /"+p.id {
		t.Errorf("the consumer has %q", body)
	}
}

func tellEDCTerminate(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("terminate", 0)
	given := p.start(w.pull(c, p))
	p.terminate()
	p.terminate()
	given.expect(t, http.StatusForbidden, "")
	p.expectPlaneState("TERMINATED")
	m := p.about(p, w.pull(c, p))
	m["sourceDataAddress"] = w.pull(c, p).source
	if code, text := p.try(p.dialect.start, p.message("DataFlowStartMessage", m)); code < 400 || code >= 500 || !strings.HasPrefix(text, "[{") {
		t.Errorf("start of a flow that has ended: %d %s", code, text)
	}
	if code, text, err := fetch(c.awaitPlane().URL+"/nothing/state", ""); code != http.StatusNotFound || err != nil {
		t.Errorf("state of no flow: %d %s %v", code, text, err)
	}
}

func tellEDCFailure(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("failure", 1)
	p.start(edcTransfer{flow: "PUSH", asset: "asset", source: c.address("HttpData", "baseUrl", w.web.url+"/missing/"+p.id),
		destination: c.address("HttpData", "baseUrl", w.web.url+"/in/"+p.id)})
	if now := p.await("TERMINATED"); !strings.Contains(now.failed, "404") {
		t.Errorf("%+v", now)
	}
	p.terminate()
	p.expectPlaneState("TERMINATED")
}

func tellEDCStartTwice(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("twice", 0)
	first := p.start(w.pull(c, p))
	second := p.start(w.pull(c, p))
	second.expect(t, http.StatusOK, "content of /"+p.id)
	if first["authorization"] == second["authorization"] {
		t.Error("the second start has the token of the first one")
	}
	first.expect(t, http.StatusForbidden, "")
	p.terminate()
}

// destination is where a consumer wants data, which the data plane says.
func (w *edcWorld) destination(c *connector, asset string) edcTransfer {
	return edcTransfer{flow: "PUSH", asset: asset, destination: c.address("HttpData")}
}

// deliver sends something to an address as EDC's HttpData sink does.
func deliver(t *testing.T, to map[string]string, content string) (code int, text string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, to["baseUrl"], strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(to["authKey"], to["authCode"])
	r.Header.Set("Content-Type", "application/octet-stream")
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// expectDelivered looks for something below a folder of the host.
func (w *edcWorld) expectDelivered(t *testing.T, folder, content string) {
	t.Helper()
	found := false
	filepath.Walk(filepath.Join(w.host.files, folder), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			body, _ := os.ReadFile(path)
			found = found || string(body) == content
		}
		return nil
	})
	if !found {
		t.Errorf("%q is nowhere in %s", content, folder)
	}
}

func tellEDCPrepare(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("prepare", 0)
	given, async := p.provision(w.destination(c, "in-"+c.id))
	if async {
		t.Fatalf("%v", given)
	}
	if code, text := deliver(t, given, "for "+p.id); code/100 != 2 {
		t.Errorf("delivery answered %d %s", code, text)
	}
	w.expectDelivered(t, "in-"+c.id, "for "+p.id)
	again, _ := p.provision(w.destination(c, "in-"+c.id))
	if again["baseUrl"] != given["baseUrl"] {
		t.Errorf("prepared again: %v, before %v", again, given)
	}
	p.terminate() // is completion, too
	if code, text := deliver(t, again, "late"); code != http.StatusForbidden {
		t.Errorf("after the end: %d %s", code, text)
	}
}

func tellEDCPrepareSlowly(t *testing.T, w *edcWorld, c *connector) {
	p := c.begin("slowly", 1)
	if given, async := p.provision(w.destination(c, "slow-"+c.id)); !async || given["endpoint"] != "" {
		t.Fatalf("%v", given)
	}
	to := map[string]string{}
	for name, value := range p.await("PROVISIONED").given {
		to[strings.TrimPrefix(name, edcNames)] = value
	}
	if to["type"] != "HttpData" {
		t.Errorf("%v", to)
	}
	if code, text := deliver(t, to, "for "+p.id); code/100 != 2 {
		t.Errorf("delivery answered %d %s", code, text)
	}
	w.expectDelivered(t, "slow-"+c.id, "for "+p.id)
	p.terminate()
}

// The host is killed while data is on its way for connectors of all dialects. They need not do anything.
func TestEDCAfterAKill(t *testing.T) {
	t.Parallel()
	w := newEDCWorld(t)
	w.host.start()
	var pushes []*transferProcess
	var pulls []edr
	for _, c := range w.connectors {
		for i := range 2 {
			p := c.begin(fmt.Sprint("killed-", i), 1)
			p.start(edcTransfer{flow: "PUSH", asset: "asset", source: c.address("HttpData", "baseUrl", w.web.url+"/"+p.id),
				destination: c.address("HttpData", "baseUrl", w.web.url+"/gated/"+p.id)})
			pushes = append(pushes, p)
		}
		p := c.begin("pulled", 0)
		pulls = append(pulls, p.start(w.pull(c, p)))
	}
	w.host.kill()
	w.host.start()
	close(w.web.gate)
	for _, p := range pushes {
		if now := p.await("COMPLETED"); !slices.Equal(now.said, []string{"complete"}) {
			t.Errorf("%s: %+v", p.id, now)
		}
		if body, _ := w.web.received("/gated/" + p.id); body != "content of /"+p.id {
			t.Errorf("%s: the consumer has %q", p.id, body)
		}
	}
	for _, a := range pulls {
		a.expect(t, http.StatusOK, "")
	}
	for _, c := range w.connectors {
		eventually(t, "registration with "+c.id+" of the host that came back", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.plane != nil && c.plane.registered == 2
		})
	}
}

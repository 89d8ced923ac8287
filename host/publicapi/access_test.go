package publicapi

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// gate notes what it is asked, and refuses the operations of a set.
type gate struct {
	mu     sync.Mutex
	asked  []AccessRequest
	closed map[string]bool
}

func (g *gate) ask(_ context.Context, r AccessRequest) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r)
	if g.closed[r.Operation] {
		return &AccessDenied{Reason: `denied by the rule "closed"`}
	}
	return nil
}

// last returns the number of requests that were asked about, and the last of them.
func (g *gate) last() (int, AccessRequest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.asked) == 0 {
		return 0, AccessRequest{}
	}
	return len(g.asked), g.asked[len(g.asked)-1]
}

// Each operation is asked about once, with what it is; one that is refused opens nothing.
func TestAccessIsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		push   bool
		path   string // behind the flow's address
		q      request
		want   AccessRequest
		status int
	}{
		"pull": {path: "?x=1", want: AccessRequest{Method: "GET", Path: "/flows/f", Query: "x=1", Operation: "pull"}, status: 200},
		"part": {path: "/parts/a%2fb",
			want: AccessRequest{Method: "GET", Path: "/flows/f/parts/a%2fb", Operation: "pull-part", Part: "a/b"}, status: 200},
		"head": {q: request{method: "HEAD"}, want: AccessRequest{Method: "HEAD", Path: "/flows/f", Operation: "pull"}, status: 200},
		"put": {push: true, path: "/a", q: request{method: "PUT", body: strings.NewReader("x")},
			want: AccessRequest{Method: "PUT", Path: "/ingest/f/a", Operation: "ingest-part", Part: "a"}, status: 201},
		"options": {push: true, q: request{method: "OPTIONS"},
			want: AccessRequest{Method: "OPTIONS", Path: "/ingest/f", Operation: "ingest"}, status: 204},
		"upload": {push: true, path: "/a?upload=u", q: request{method: "HEAD"},
			want: AccessRequest{Method: "HEAD", Path: "/ingest/f/a", Query: "upload=u", Operation: "upload", Part: "a"}, status: 404},
	} {
		for _, closed := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", refused"}[closed], func(t *testing.T) {
				g := &gate{closed: map[string]bool{c.want.Operation: closed}}
				w := newWorld(t, func(_ *world, o *Options) { o.Access = g.ask })
				w.memory.Put("a/b", []byte("content"))
				q := c.q
				if q.body != nil {
					q.body = strings.NewReader("x")
				}
				q.header = map[string]string{"X-Purpose": "test"}
				a := w.pull("f")
				if c.push {
					a = w.push("f")
				}
				status := c.status
				if closed {
					status = http.StatusForbidden
				}
				p := w.do(a, a.Endpoint+c.path, q).wantStatus(t, status)
				if closed && q.method != "HEAD" && (p.Type != "urn:towpath:problem:access-denied" || p.Detail != `denied by the rule "closed"`) {
					t.Errorf("the problem is %+v", p)
				}
				n, got := g.last()
				if n != 1 || got.Flow == nil || got.Flow.ID != "f" || got.RemoteAddr != "127.0.0.1" ||
					got.Header.Get("X-Purpose") != "test" || got.Header.Get("Authorization") != "" {
					t.Errorf("asked %d times, about %+v", n, got)
				}
				got.Flow, got.Header, got.RemoteAddr = nil, nil, ""
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("asked about (-want +got):\n%s", diff)
				}
				if parts := w.flows.recorded(key("f")); closed && len(parts) > 0 {
					t.Errorf("parts %v were recorded", parts)
				}
			})
		}
	}
}

// A request that is handed on is one whatever its path looks like.
func TestAccessToProxy(t *testing.T) {
	g := &gate{closed: map[string]bool{"proxy": true}}
	w := newWorld(t, func(_ *world, o *Options) {
		o.Access, o.Proxy.Proxies = g.ask, func(string) bool { return true }
	})
	local := w.memory.Address("")
	local.Properties = map[string]string{"proxyPath": "true", "proxyMethod": "true"}
	a := w.add(flow.Flow{Key: key("f"), Role: flow.Provider, Direction: flow.Pull, Local: local})
	for _, path := range []string{"", "/parts/a%2Fb", "/any/thing"} {
		w.do(a, a.Endpoint+path, request{method: http.MethodPost}).wantStatus(t, http.StatusForbidden)
		if _, got := g.last(); got.Operation != "proxy" || got.Part != "" || got.Method != http.MethodPost || got.Path != "/flows/f"+path {
			t.Errorf("asked about %+v", got)
		}
	}
}

func TestAccessToManifest(t *testing.T) {
	g := &gate{closed: map[string]bool{"manifest": true}}
	w := newWorld(t, func(_ *world, o *Options) { o.Access = g.ask })
	a := w.push("f")
	if p := w.manifest(a, `{"parts":[]}`).wantStatus(t, http.StatusForbidden); p.Type != "urn:towpath:problem:access-denied" {
		t.Errorf("%+v", p)
	}
	if n, got := g.last(); n != 1 || got.Operation != "manifest" || got.Path != "/manifests/f" {
		t.Errorf("asked %d times, about %+v", n, got)
	}
}

// Nobody is asked about a request that has no good token.
func TestAccessIsForGoodTokens(t *testing.T) {
	g := &gate{}
	w := newWorld(t, func(_ *world, o *Options) { o.Access = g.ask })
	a, other := w.pull("f"), w.pull("g")
	other.Endpoint = a.Endpoint
	w.get(other, nil).wantStatus(t, http.StatusForbidden)
	a.Properties["authorization"] = "nonsense"
	w.get(a, nil).wantStatus(t, http.StatusUnauthorized)
	if n, _ := g.last(); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

// A decision that takes long does not hold up a suspend.
func TestSuspendWhileAccessIsDecided(t *testing.T) {
	asked := make(chan struct{})
	w := newWorld(t, func(_ *world, o *Options) {
		o.Access = func(ctx context.Context, _ AccessRequest) error {
			close(asked)
			<-ctx.Done()
			return context.Cause(ctx)
		}
	})
	a := w.pull("f")
	go func() {
		<-asked
		w.flows.stop(key("f"), flow.Suspended)
	}()
	if p := w.get(a, nil).wantStatus(t, http.StatusForbidden); p.Type != "urn:towpath:problem:stopped" {
		t.Errorf("%+v", p)
	}
}

package signaling

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// bouncer is a control plane that wants tokens, in a synctest bubble: it has a token endpoint and takes the tokens that accept likes.
type bouncer struct {
	mu     sync.Mutex // guards what follows
	issued int
	seen   []string // tokens of callbacks, in the order of arrival
	accept func(token string) int
	fail   int // what the token endpoint answers, 0 for tokens
}

func (b *bouncer) answer(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/token") {
		if b.fail != 0 {
			return status(b.fail, "Retry-After", "40")(r)
		}
		b.issued++
		response, err := status(http.StatusOK)(r)
		response.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"access_token":"t%d","token_type":"Bearer","expires_in":3600}`, b.issued)))
		return response, err
	}
	token, _ := bearer(r.Header)
	b.seen = append(b.seen, token)
	return status(b.accept(token))(r)
}

func (b *bouncer) tokens() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.seen, " ")
}

// guarded makes the control plane a of an office one that wants tokens.
func guarded(o *office, b *bouncer) {
	o.net.answers["a.example"] = b.answer
	o.planes["a"] = ControlPlane{Endpoint: "https://a.example/cp", Outbound: Outbound{Type: AuthClientCredentials,
		TokenEndpoint: "https://a.example/token", ClientID: "dp", ClientSecret: "hunter2"}}
}

// A token that is refused is replaced at once, a new one that is refused is not.
func TestRefusedCallbackIsSentAgainAtOnce(t *testing.T) {
	for _, code := range []int{401, 403} {
		synctest.Test(t, func(t *testing.T) {
			o := newOffice(t)
			b := &bouncer{accept: func(token string) int {
				if token == "t1" {
					return code
				}
				return 200
			}}
			guarded(o, b)
			o.enqueue("f", "a", completed("m"))
			o.open()
			defer o.stop()
			synctest.Wait()
			if c := o.stored("f")[0]; c.Status != flow.CallbackDelivered || c.Attempts != 1 || b.tokens() != "t1 t2" {
				t.Errorf("%d: %s after %d attempts with %s", code, c.Status, c.Attempts, b.tokens())
			}
			o.enqueue("g", "a", completed("m"))
			synctest.Wait()
			if b.tokens() != "t1 t2 t2" {
				t.Errorf("%d: then with %s", code, b.tokens())
			}
		})
	}
}

func TestCallbackThatIsRefusedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		b := &bouncer{accept: func(string) int { return 401 }}
		guarded(o, b)
		o.enqueue("f", "a", completed("m"))
		o.open()
		defer o.stop()
		synctest.Wait()
		if c := o.stored("f")[0]; c.Status != flow.CallbackPending || c.Attempts != 1 || c.LastErr != "answered 401 Unauthorized" || b.tokens() != "t1 t2" {
			t.Errorf("%s after %d attempts, %q, with %s", c.Status, c.Attempts, c.LastErr, b.tokens())
		}
		for i := range 50 {
			o.enqueue(fmt.Sprint("f", i), "a", completed("m"))
		}
		time.Sleep(10 * time.Second)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.issued > 14 {
			t.Errorf("%d tokens in 10 seconds", b.issued)
		}
	})
}

func TestNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		b := &bouncer{fail: 503, accept: func(string) int { return 200 }}
		guarded(o, b)
		o.enqueue("f", "a", completed("m"))
		o.open()
		defer o.stop()
		begun := time.Now()
		synctest.Wait()
		c := o.stored("f")[0]
		want := "no authorization: token endpoint https://a.example: answered 503 Service Unavailable"
		if c.Status != flow.CallbackPending || c.LastErr != want || c.Next.Sub(begun) < 40*time.Second {
			t.Errorf("%s, %q, next after %v", c.Status, c.LastErr, c.Next.Sub(begun))
		}
		b.mu.Lock()
		b.fail = 0
		b.mu.Unlock()
		time.Sleep(time.Minute)
		if c := o.stored("f")[0]; c.Status != flow.CallbackDelivered {
			t.Errorf("then %s, %q", c.Status, c.LastErr)
		}
	})
}

func TestTokenEndpointHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		guarded(o, &bouncer{})
		o.net.answers["a.example"] = hang
		for i := range 30 {
			o.enqueue(fmt.Sprint("f", i), "a", completed("m"))
		}
		o.open()
		defer o.stop()
		time.Sleep(DefaultTimeout + time.Millisecond)
		if c := o.stored("f0")[0]; c.LastErr != "no authorization within 10s" && c.LastErr != "no authorization: token endpoint https://a.example: no answer in time" {
			t.Errorf("%q", c.LastErr)
		}
	})
}

// Callbacks go to the control plane of their own participant context, as long as it is there.
func TestControlPlanesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.furnish()
		d := o.ControlPlanes
		add := func(context string) {
			m, err := d.newMember(ControlPlane{ID: "late", Context: context, Endpoint: "https://late.example",
				Inbound: Inbound{Type: AuthStatic, Secret: "x"}}, o.client)
			if err != nil {
				t.Fatal(err)
			}
			d.replace("late", m)
		}
		o.enqueue("f", "late", completed("m"))
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { done <- o.Run(ctx) }()
		time.Sleep(time.Second)
		add("another")
		time.Sleep(10 * time.Minute)
		if c := o.stored("f")[0]; c.Status != flow.CallbackPending || c.LastErr != `control plane "late" is not known` || len(o.net.arrivals()) != 0 {
			t.Errorf("in another participant context: %s, %q", c.Status, c.LastErr)
		}
		add(flow.DefaultContext)
		time.Sleep(10 * time.Minute)
		if c := o.stored("f")[0]; c.Status != flow.CallbackDelivered {
			t.Errorf("%s, %q", c.Status, c.LastErr)
		}
		d.replace("late", nil)
		o.enqueue("g", "late", completed("m"))
		synctest.Wait()
		if c := o.stored("g")[0]; c.Status != flow.CallbackPending {
			t.Errorf("%s", c.Status)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		d.Close()
	})
}

// Each control plane has its own client, with its roots and our certificate.
func TestClientOfAControlPlane(t *testing.T) {
	var names sync.Map
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		names.Store(r.TLS.PeerCertificates[0].Subject.Organization[0], true)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of refused handshakes
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	with := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: server.TLS.Certificates}}}

	o, settled := overSockets(t, server.URL, nil)
	o.planes["b"] = ControlPlane{Endpoint: server.URL, HTTP: with}
	o.enqueue("f", "a", completed("m"))
	o.enqueue("g", "b", completed("m"))
	o.open()
	defer o.stop()
	for range 2 {
		c := <-settled
		if want := map[string]flow.CallbackStatus{"a": flow.CallbackPending, "b": flow.CallbackDelivered}[c.ControlPlane]; c.Status != want {
			t.Errorf("%s: %s, %q", c.ControlPlane, c.Status, c.LastErr)
		}
	}
	if _, ok := names.Load("Acme Co"); !ok {
		t.Error("no certificate of ours arrived")
	}
}

// The only control plane of a host needs no secret, and callbacks to it have none.
func TestCallbackWithoutAuthorization(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		var header http.Header
		o.net.answers["a.example"] = func(r *http.Request) (*http.Response, error) {
			header = r.Header
			return status(401)(r)
		}
		o.enqueue("f", "a", completed("m"))
		o.open()
		synctest.Wait()
		o.stop()
		if header.Get("Authorization") != "" || len(o.net.arrivals()) != 1 {
			t.Errorf("%v, %d attempts", header, len(o.net.arrivals()))
		}
	})
}

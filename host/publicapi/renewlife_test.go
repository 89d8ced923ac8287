package publicapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/host/token/tokentest"
	"github.com/towpath-dataplane/towpath/sdk"
)

func TestLostAnswerOfARenewal(t *testing.T) {
	w := newRenewing(t, nil)
	w.memory.Put("d", []byte("x"))
	p := w.newParty(them)
	first := w.offer("f", them)
	second := w.renew(p, first).wantTokens(t, first)
	w.clock.advance(5 * time.Minute)
	again := w.renew(p, first).wantTokens(t, first)
	if again.Get("expiresIn") != "3300" {
		t.Errorf("expires in %s", again.Get("expiresIn"))
	}
	again.Properties["expiresIn"] = second.Get("expiresIn")
	if diff := cmp.Diff(second, again); diff != "" {
		t.Errorf("the second answer has other tokens:\n%s", diff)
	}
	w.get(second, nil).wantBody(t, http.StatusOK, "x")
	description := w.renew(p, first).wantRefusal(t, "after the use", http.StatusBadRequest, "invalid_grant")
	if description != "the refresh token was used before" {
		t.Errorf("description %q", description)
	}
	for _, a := range []sdk.DataAddress{first, second} {
		w.get(a, nil).wantStatus(t, http.StatusForbidden)
		w.renew(p, a).wantRefusal(t, "after the reuse", http.StatusBadRequest, "invalid_grant")
	}
	w.wantRenewals(t, map[string]float64{"renewed": 1, "repeated": 1, "reused": 1, "invalid_grant": 2})
	if !strings.Contains(w.log.String(), "level=WARN") {
		t.Error("the reuse is not in the log")
	}
	if got := w.flows.reported(key("f")); len(got) != 1 || !strings.Contains(got[0], "used twice") {
		t.Errorf("reported %q", got)
	}
	// A resume makes good again.
	resumed := w.offer("f", them)
	w.renew(p, resumed).wantTokens(t, resumed)
}

func TestGraceOfARenewal(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	first := w.offer("f", them)
	w.renew(p, first).wantTokens(t, first)
	w.clock.advance(10*time.Minute - 2*time.Second)
	w.renew(p, first).wantTokens(t, first)
	w.clock.advance(2 * time.Second)
	w.renew(p, first).wantRefusal(t, "after the grace", http.StatusBadRequest, "invalid_grant")
	w.wantRenewals(t, map[string]float64{"renewed": 1, "repeated": 1, "reused": 1})
}

// A client that has gone before its tokens were renewed gets them when it comes again.
func TestClientThatDoesNotWait(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	first := w.offer("f", them)
	body := grant(first.Get("refreshToken"))
	answered := make(chan struct{})
	w.server.Config.Handler = closing{w.server.Config.Handler, answered}
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\nAuthorization: Bearer %s\r\n\r\n%s",
		formType, len(body), p.sign(first.Get("authorization"), nil), body)
	conn.Close()
	<-answered
	second := w.renew(p, first).wantTokens(t, first)
	w.renew(p, second).wantTokens(t, second)
}

// closing tells when its first request was served.
type closing struct {
	http.Handler
	done chan struct{}
}

func (c closing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		select {
		case <-c.done:
		default:
			close(c.done)
		}
	}()
	c.Handler.ServeHTTP(w, r)
}

func TestRenewalsAtOnce(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	a := w.offer("f", them)
	bodies := make([]response, 4)
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { bodies[i] = w.renew(p, a) })
	}
	wg.Wait()
	first := bodies[0].wantTokens(t, a)
	for _, res := range bodies {
		if diff := cmp.Diff(first, res.wantTokens(t, a)); diff != "" {
			t.Error(diff)
		}
	}
	w.wantRenewals(t, map[string]float64{"renewed": 1, "repeated": 3})
}

// The next process, with the same key and store, goes on where the last one was.
func TestRenewalAfterARestart(t *testing.T) {
	dir, store := t.TempDir(), tokentest.NewMemory()
	open := func() (*world, *party) {
		w := newRenewing(t, func(w *world, o *Options) {
			w.tokens = openAuthority(t, dir, store, w.clock.Now)
			o.Tokens, o.Renewal.Tokens = w.tokens, w.tokens
		})
		w.memory.Put("d", []byte("x"))
		return w, w.newParty(them)
	}
	before, p := open()
	first := before.offer("f", them)
	second := before.renew(p, first).wantTokens(t, first)

	after, p := open()
	after.flows.put(before.flows.flows[key("f")])
	first.Endpoint = after.server.URL + "/flows/f"
	again := after.renew(p, first).wantTokens(t, first)
	if again.Get("authorization") != second.Get("authorization") || again.Get("refreshToken") != second.Get("refreshToken") {
		t.Error("the next process has other tokens")
	}
	after.get(again, nil).wantBody(t, http.StatusOK, "x")
	after.renew(p, again).wantTokens(t, again)
}

func TestStatesInWhichTokensAreNotRenewed(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	for _, state := range []flow.State{flow.Preparing, flow.Prepared, flow.Starting, flow.Suspended, flow.Completed, flow.Terminated} {
		a := w.offer("f", them)
		w.flows.stop(key("f"), state) // and nothing is revoked yet
		description := w.renew(p, a).wantRefusal(t, string(state), http.StatusBadRequest, "invalid_grant")
		if description != "the data flow is "+string(state) {
			t.Errorf("%s: %q", state, description)
		}
	}
	a := w.offer("gone", them)
	delete(w.flows.flows, key("gone"))
	w.renew(p, a).wantRefusal(t, "gone", http.StatusBadRequest, "invalid_grant")
	if n := w.flows.visiting(key("f")); n != 0 {
		t.Errorf("%d renewals are left inside", n)
	}
}

// A flow that stops while the client's DID is resolved has no more tokens.
func TestStopWhileADIDIsResolved(t *testing.T) {
	w := newRenewing(t, nil)
	w.memory.Put("d", []byte("x"))
	p := w.newParty(them)
	for name, stop := range map[string]func(){
		"suspended": func() {
			w.flows.stop(key("f"), flow.Suspended)
			if err := w.endpoint.Revoke(t.Context(), key("f")); err != nil {
				t.Error(err)
			}
		},
		"suspended and resumed": func() { w.offer("f", them) },
	} {
		a := w.offer("f", them)
		w.wallet.hook = func(string) { stop() }
		w.renew(p, a).wantRefusal(t, name, http.StatusBadRequest, "invalid_grant")
		w.wallet.hook = nil
		w.get(a, nil).wantStatus(t, http.StatusForbidden)
	}
}

func TestFailuresOfARenewal(t *testing.T) {
	store := tokentest.NewMemory()
	service := &late{}
	w := newRenewing(t, func(w *world, o *Options) {
		w.tokens = openAuthority(t, t.TempDir(), store, w.clock.Now)
		o.Tokens, o.Renewal.Tokens, o.Flows = w.tokens, w.tokens, service
	})
	service.Service = w.flows
	p := w.newParty(them)
	a := w.offer("f", them)

	w.wallet.broken = fmt.Errorf("%w: connection refused", identity.ErrKeys)
	res := w.renew(p, a)
	res.wantRefusal(t, "no keys", http.StatusServiceUnavailable, "temporarily_unavailable")
	if res.Header.Get("Retry-After") != "5" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
	w.wallet.broken = fmt.Errorf("%w: %w", identity.ErrKeys, sdk.Errorf(sdk.Denied, "connections to 10.1.2.3 are not allowed"))
	if description := w.renew(p, a).wantRefusal(t, "keys out of reach", http.StatusUnauthorized, "invalid_client"); strings.Contains(description, "10.1") {
		t.Errorf("the client is told %q", description)
	}
	w.wallet.broken = nil

	store.Break(errors.New("disk on fire"))
	description := w.renew(p, a).wantRefusal(t, "broken store", http.StatusInternalServerError, "server_error")
	store.Break(nil)
	_, instance, _ := strings.Cut(description, ", as ")
	if !strings.HasPrefix(instance, "urn:uuid:") || !strings.Contains(w.log.String(), instance) || !strings.Contains(w.log.String(), "disk on fire") {
		t.Errorf("%q is not in the log", instance)
	}
	if strings.Contains(description, "fire") {
		t.Errorf("the client is told %q", description)
	}

	service.Service = closed{w.flows}
	res = w.renew(p, a)
	res.wantRefusal(t, "shutdown", http.StatusServiceUnavailable, "temporarily_unavailable")
	if res.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After at shutdown")
	}
	service.Service = w.flows
	w.renew(p, a).wantTokens(t, a)
	w.wantRenewals(t, map[string]float64{"temporarily_unavailable": 2, "invalid_client": 1, "server_error": 1, "renewed": 1})
	log := w.log.String()
	for name, secret := range map[string]string{"access": a.Get("authorization"), "refresh": a.Get("refreshToken")} {
		if strings.Contains(log, secret) {
			t.Errorf("the %s token is in the log", name)
		}
	}
}

// closed is a flow service of an engine that shuts down.
type closed struct{ *flows }

func (closed) Join(context.Context, flow.Key) (*flow.Joined, error) { return nil, flow.ErrClosed }

func TestRenewalsThatAreTooMany(t *testing.T) {
	w := newRenewing(t, nil)
	p, other := w.newParty(them), w.newParty("did:web:other.example")
	a, theirs := w.offer("f", them), w.offer("g", other.did)
	entered, release := make(chan struct{}, maxRenewalsPerClient), make(chan struct{})
	w.wallet.hook = func(did string) {
		if did == them {
			entered <- struct{}{}
			<-release
		}
	}
	answers := make(chan response, maxRenewalsPerClient)
	for range maxRenewalsPerClient {
		go func() { answers <- w.renew(p, a) }()
	}
	for range maxRenewalsPerClient {
		<-entered
	}
	res := w.renew(p, a)
	res.wantRefusal(t, "one more", http.StatusServiceUnavailable, "temporarily_unavailable")
	if res.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
	w.renew(other, theirs).wantTokens(t, theirs)
	close(release)
	for range maxRenewalsPerClient {
		(<-answers).wantTokens(t, a)
	}
	w.wallet.hook = nil

	leave := func() {}
	r := &renewing{clients: map[string]int{}}
	for i := range maxRenewals {
		var err error
		if leave, err = r.enter(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.enter("x"); err == nil {
		t.Error("there is no limit for all clients")
	}
	leave()
	if _, err := r.enter("x"); err != nil {
		t.Error(err)
	}

	b := w.offer("h", them)
	for range 100 {
		b = w.renew(p, b).wantTokens(t, b)
	}
	res = w.renew(p, b)
	res.wantRefusal(t, "a renewal without need", http.StatusTooManyRequests, "temporarily_unavailable")
	if res.Header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
}

// With a resolver that looks in the network, and a document that is served there.
func TestRenewalWithAResolvedDID(t *testing.T) {
	document := make(chan []byte, 1)
	fetched := 0
	did := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content := <-document
		document <- content
		fetched++
		w.Write(content)
	}))
	defer did.Close()
	resolver := identity.NewResolver(identity.ResolverOptions{HTTP: did.Client(), AllowHTTP: func(string) bool { return true }})
	defer resolver.Close()
	w := newRenewing(t, func(_ *world, o *Options) { o.Renewal.Keys = resolver.Keys })
	client := "did:web:" + strings.ReplaceAll(did.Listener.Addr().String(), ":", "%3A")
	signer, err := identity.LoadSigner(filepath.Join(t.TempDir(), "client.pem"), client, "")
	if err != nil {
		t.Fatal(err)
	}
	document <- signer.Document()
	a := w.offer("f", client)
	sign := func(a sdk.DataAddress) string {
		raw, err := signer.Sign(map[string]any{"iss": client, "sub": client, "aud": us, "token": a.Get("authorization"),
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "jti": "1"})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for range 3 {
		a = w.post(grant(a.Get("refreshToken")), sign(a)).wantTokens(t, a)
	}
	if fetched != 1 {
		t.Errorf("the document was fetched %d times", fetched)
	}
	thief := &party{t: t, did: client, key: newECDSA(t)}
	w.renew(thief, a).wantRefusal(t, "a thief", http.StatusUnauthorized, "invalid_client")
}

func TestRenewalStory(t *testing.T) {
	p := newPlane(t, nil)
	client := p.newParty("did:web:them")
	p.memory.Put("d", []byte("x"))
	ctx := t.Context()
	started, err := p.engine.Start(ctx, create("f", "http-pull"))
	if err != nil {
		t.Fatal(err)
	}
	ours := func(a sdk.DataAddress) response {
		return p.post(grant(a.Get("refreshToken")), client.sign(a.Get("authorization"), func(_, claims map[string]any) { claims["aud"] = "did:web:us" }))
	}
	first := *started.DataAddress
	second := ours(first).wantTokens(t, first)
	p.get(second, nil).wantBody(t, http.StatusOK, "x")
	if _, err := p.engine.Suspend(ctx, message("f"), ""); err != nil {
		t.Fatal(err)
	}
	for _, a := range []sdk.DataAddress{first, second} {
		p.get(a, nil).wantStatus(t, http.StatusForbidden)
		ours(a).wantRefusal(t, "suspended", http.StatusBadRequest, "invalid_grant")
	}
	resumed, err := p.engine.Resume(ctx, message("f"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ours(second).wantRefusal(t, "with the tokens from before", http.StatusBadRequest, "invalid_grant")
	third := ours(*resumed.DataAddress).wantTokens(t, *resumed.DataAddress)
	p.get(third, nil).wantBody(t, http.StatusOK, "x")
	if _, err := p.engine.Terminate(ctx, message("f"), ""); err != nil {
		t.Fatal(err)
	}
	ours(third).wantRefusal(t, "terminated", http.StatusBadRequest, "invalid_grant")
	p.get(third, nil).wantStatus(t, http.StatusForbidden)
}

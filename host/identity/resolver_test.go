package identity

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// documentOf returns a DID document with keys under the given names.
func documentOf(t testing.TB, did string, names ...string) []byte {
	methods := make([]any, len(names))
	for i, name := range names {
		methods[i] = map[string]any{
			"id": did + "#" + name, "type": "JsonWebKey2020", "controller": did, "publicKeyJwk": jwk(t, pairs()["P-256"].Public(), nil),
		}
	}
	return marshal(t, map[string]any{"id": did, "verificationMethod": methods})
}

func TestResolveOverHTTP(t *testing.T) {
	var did string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/did.json":
			w.Write(documentOf(t, did, "k"))
		case "/users/alice/did.json":
			w.Write(documentOf(t, did+":users:alice", "k"))
		case "/liar/did.json":
			w.Write(documentOf(t, did, "k"))
		case "/large/did.json":
			w.Write(append(documentOf(t, did+":large", "k"), []byte(strings.Repeat(" ", maxAnswer))...))
		case "/moved/did.json":
			http.Redirect(w, r, "/.well-known/did.json", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
	secure, plain := httptest.NewTLSServer(handler), httptest.NewServer(handler)
	defer secure.Close()
	defer plain.Close()
	address := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for _, tc := range []struct {
		server *httptest.Server
		path   string
		allow  string // host that may be asked over plain HTTP
		want   string
	}{
		{secure, "", "", "found"},
		{secure, ":users:alice", "", "found"},
		{secure, "", address(secure), "found"}, // HTTPS first
		{secure, ":liar", "", "unavailable"},
		{secure, ":nobody", "", "unavailable"},
		{secure, ":large", "", "unavailable"},
		{secure, ":moved", "", "unavailable"},
		{plain, "", "", "unavailable"},
		{plain, "", address(secure), "unavailable"},
		{plain, "", address(plain), "found"},
		{plain, ":users:alice", address(plain), "found"},
		{plain, ":nobody", address(plain), "unavailable"},
	} {
		did = "did:web:" + strings.ReplaceAll(address(tc.server), ":", "%3A")
		client := secure.Client()
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		r := NewResolver(ResolverOptions{HTTP: client, AllowHTTP: func(host string) bool { return host == tc.allow }})
		if got := lookup(r.Keys(did+tc.path), "#k"); got != tc.want {
			t.Errorf("%s%s with HTTP allowed for %q: %s, want %s", did, tc.path, tc.allow, got, tc.want)
		}
		r.Close()
		client.CloseIdleConnections()
	}
}

func TestPlainHTTPIsTheSecondChoice(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*site)
		want   string
	}{
		{"no answer", func(s *site) { s.err = errors.New("refused") }, "https://them/a/did.json http://them/a/did.json"},
		{"no answer for long", func(s *site) { s.delay = time.Hour }, "https://them/a/did.json http://them/a/did.json"},
		{"a wrong answer", func(s *site) { s.status = http.StatusNotFound }, "https://them/a/did.json"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &site{status: http.StatusOK}
			s.change(func() { tc.change(s) })
			r := NewResolver(ResolverOptions{HTTP: s.client(), AllowHTTP: func(string) bool { return true }})
			defer r.Close()
			before := time.Now()
			if got := lookup(r.Keys("did:web:them:a"), ""); got != "unavailable" {
				t.Errorf("%s: %s", tc.name, got)
			}
			if took := time.Since(before); took > fetchTimeout {
				t.Errorf("%s: took %v", tc.name, took)
			}
			if got := strings.Join(s.gets, " "); got != tc.want {
				t.Errorf("%s: asked %s, want %s", tc.name, got, tc.want)
			}
		})
	}
}

// A key that is replaced every now and then under one id is always the one that tokens are verified with.
func TestReplacedKeyOfADIDIsFoundAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{}
		r := NewResolver(ResolverOptions{HTTP: s.client()})
		defer r.Close()
		const did = "did:web:them"
		for i := range 10 {
			name := []string{"P-256", "other P-256"}[i%2]
			s.serve(marshal(t, map[string]any{"id": did, "verificationMethod": []any{
				map[string]any{"id": "#k", "publicKeyJwk": jwk(t, pairs()[name].Public(), nil)},
			}}))
			raw := sign(t, "ES256", pairs()[name], map[string]any{"kid": did + "#k"}, good(nil))
			if _, err := Verify(t.Context(), raw, r.Keys(did), rules()); err != nil {
				t.Errorf("key %d: %v", i, err)
			}
			time.Sleep(300 * time.Millisecond)
		}
	})
}

// A suite that makes a new key for each of its tests is never told that the key is unknown.
func TestNewKeyOfADIDIsFoundAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{}
		r := NewResolver(ResolverOptions{HTTP: s.client()})
		defer r.Close()
		const did = "did:web:them"
		for i := range 10 {
			name := fmt.Sprint("k", i)
			s.serve(documentOf(t, did, name))
			for _, kid := range []string{did + "#" + name, "#" + name, ""} {
				if got := lookup(r.Keys(did), kid); got != "found" {
					t.Errorf("key %d by %q: %s", i, kid, got)
				}
			}
			time.Sleep(300 * time.Millisecond)
		}
		if n := s.asked(); n != 10 {
			t.Errorf("%d fetches for 10 keys", n)
		}
	})
}

func TestFloodOfUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{}
		s.serve(documentOf(t, "did:web:them", "k"))
		r := NewResolver(ResolverOptions{HTTP: s.client()})
		defer r.Close()
		ends := time.Now().Add(time.Minute)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				for n := 0; time.Now().Before(ends); n++ {
					if got := lookup(r.Keys("did:web:them"), fmt.Sprint("#", i, n)); got != "no key" {
						t.Error(got)
					}
				}
			})
		}
		wg.Go(func() {
			time.Sleep(time.Second / 2)
			for time.Now().Before(ends) {
				before := time.Now()
				if got := lookup(r.Keys("did:web:them"), "#k"); got != "found" || time.Since(before) > 0 {
					t.Errorf("%s after %v", got, time.Since(before))
				}
				time.Sleep(time.Second / 7)
			}
		})
		wg.Wait()
		if n := s.asked(); n > 62 {
			t.Errorf("%d fetches in a minute", n)
		}
	})
}

func TestDocumentsAreForgottenInOrderOfUse(t *testing.T) {
	s := &site{status: http.StatusNotFound}
	r := NewResolver(ResolverOptions{HTTP: s.client(), MinGap: time.Hour})
	defer r.Close()
	did := func(i int) string { return fmt.Sprint("did:web:them:", i) }
	for i := range maxDocuments {
		lookup(r.Keys(did(i)), "")
	}
	lookup(r.Keys(did(0)), "")
	lookup(r.Keys(did(maxDocuments)), "")
	if n := s.asked(); n != maxDocuments+1 || len(r.documents) != maxDocuments {
		t.Errorf("%d fetches, %d documents", n, len(r.documents))
	}
	lookup(r.Keys(did(0)), "")
	lookup(r.Keys(did(1)), "")
	if got := strings.Join(s.gets, " "); got != "https://them/1/did.json" {
		t.Errorf("fetched again: %s", got)
	}
}

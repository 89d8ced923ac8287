package publicapi

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/sdk"
)

const us, them = "did:web:us.example", "did:web:them.example"

// wallet has the keys of DIDs, as a resolver would find them.
type wallet struct {
	mu       sync.Mutex // guards what follows
	keys     map[string]crypto.PublicKey
	resolved []string // the DIDs that were asked for
	broken   error
	hook     func(did string) // is called at each look-up
}

func (w *wallet) Keys(did string) identity.Keys { return walletKeys{w, did} }

func (w *wallet) resolutions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.resolved)
}

type walletKeys struct {
	wallet *wallet
	did    string
}

func (k walletKeys) Keys(_ context.Context, kid string) ([]crypto.PublicKey, error) {
	k.wallet.mu.Lock()
	k.wallet.resolved = append(k.wallet.resolved, k.did)
	key, known := k.wallet.keys[k.did]
	hook, err := k.wallet.hook, k.wallet.broken
	k.wallet.mu.Unlock()
	if hook != nil {
		hook(k.did)
	}
	switch {
	case err != nil:
		return nil, err
	case !known, kid != "" && kid != "#key-1" && kid != k.did+"#key-1":
		return nil, identity.ErrNoKey
	}
	return []crypto.PublicKey{key}, nil
}

// party is a counterparty with a key.
type party struct {
	t   testing.TB
	did string
	key *ecdsa.PrivateKey
}

// newParty makes a counterparty whose key can be found.
func (w *world) newParty(did string) *party {
	w.t.Helper()
	p := &party{t: w.t, did: did, key: newECDSA(w.t)}
	w.wallet.mu.Lock()
	defer w.wallet.mu.Unlock()
	w.wallet.keys[did] = p.key.Public()
	return p
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign signs what shows who the party is; change, if not nil, sees header and claims first.
func (p *party) sign(access string, change func(header, claims map[string]any)) string {
	p.t.Helper()
	claims := jwt.MapClaims{"iss": p.did, "sub": p.did, "aud": us, "token": access}
	j := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	j.Header["kid"] = p.did + "#key-1"
	if change != nil {
		change(j.Header, claims)
	}
	raw, err := j.SignedString(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

// newRenewing makes a world in which tokens can be renewed.
func newRenewing(t testing.TB, change func(*world, *Options)) *world {
	t.Helper()
	return newWorld(t, func(w *world, o *Options) {
		o.Renewal = RenewalOptions{Tokens: w.tokens, Keys: w.wallet.Keys, Clock: w.clock.Now}
		if change != nil {
			change(w, o)
		}
	})
}

// offer adds a STARTED flow of a provider for a counterparty and returns its address.
func (w *world) offer(id, counterparty string) sdk.DataAddress {
	w.t.Helper()
	return w.add(flow.Flow{Key: key(id), Role: flow.Provider, Direction: flow.Pull, CounterPartyID: counterparty})
}

// grant is the form of a renewal.
func grant(refresh string) string {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}.Encode()
}

// post sends a form to the token endpoint with something signed; "" for nothing.
func (w *world) post(form, signed string) response {
	w.t.Helper()
	header := map[string]string{"Content-Type": formType}
	if signed != "" {
		header["Authorization"] = "Bearer " + signed
	}
	return w.do(sdk.DataAddress{}, w.server.URL+renewalPath, request{method: http.MethodPost, body: strings.NewReader(form), header: header})
}

// renew renews the tokens of an address.
func (w *world) renew(p *party, a sdk.DataAddress) response {
	w.t.Helper()
	return w.post(grant(a.Get("refreshToken")), p.sign(a.Get("authorization"), nil))
}

// wantTokens checks an answer with tokens, and returns an address that has them.
func (r response) wantTokens(t *testing.T, a sdk.DataAddress) sdk.DataAddress {
	t.Helper()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	var got struct {
		Access  string      `json:"access_token"`
		Type    string      `json:"token_type"`
		Expires json.Number `json:"expires_in"`
		Refresh string      `json:"refresh_token"`
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || got.Access == "" || got.Refresh == "" || got.Type != "Bearer" {
		t.Fatalf("answer %s: %v", r.body, err)
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Pragma": "no-cache", "Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
	} {
		if r.Header.Get(name) != want {
			t.Errorf("%s: %q", name, r.Header.Get(name))
		}
	}
	b := a.Clone()
	b.Properties["authorization"], b.Properties["refreshToken"], b.Properties["expiresIn"] = got.Access, got.Refresh, got.Expires.String()
	return b
}

// wantRefusal checks an answer without tokens and returns its description.
func (r response) wantRefusal(t *testing.T, what string, status int, code string) string {
	t.Helper()
	var got map[string]string
	if err := json.Unmarshal(r.body, &got); err != nil || r.StatusCode != status || got["error"] != code || got["error_description"] == "" || len(got) != 2 {
		t.Errorf("%s: %d %s (%v), want %d %s", what, r.StatusCode, r.body, err, status, code)
	}
	challenged := ""
	if status == http.StatusUnauthorized {
		challenged = challenge
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Pragma": "no-cache", "Content-Type": "application/json", "WWW-Authenticate": challenged,
	} {
		if r.Header.Get(name) != want {
			t.Errorf("%s: %s is %q", what, name, r.Header.Get(name))
		}
	}
	return got["error_description"]
}

// wantRenewals checks how many renewals ended in what way.
func (w *world) wantRenewals(t *testing.T, want map[string]float64) {
	t.Helper()
	for outcome, n := range want {
		if got := w.metric("towpath_public_renewals_total", map[string]string{"outcome": outcome}); got != n {
			t.Errorf("%v renewals are %s, want %v", got, outcome, n)
		}
	}
}

package signaling

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signingKey signs tokens in tests.
type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

func newSigningKey(t testing.TB, id string) signingKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signingKey{id, private}
}

// jwks is the set with the public half.
func (k signingKey) jwks() []byte {
	point, err := k.private.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	coordinate := base64.RawURLEncoding.EncodeToString
	return encode(map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "kid": k.id, "use": "sig", "alg": "ES256", "x": coordinate(point[1:33]), "y": coordinate(point[33:]),
	}}})
}

// sign returns a token that is good for dp now; what claims has goes before, nil removes.
func (k signingKey) sign(claims map[string]any) string {
	now := time.Now()
	all := jwt.MapClaims{"iss": "https://idp.example", "aud": "dp", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, all)
	if k.id != "" {
		token.Header["kid"] = k.id
	}
	signed, err := token.SignedString(k.private)
	if err != nil {
		panic(err)
	}
	return signed
}

// authority is an authorization server: it knows the client "dp:1" with the secret "s&cret /+", exchanges the subject tokens it is told
// of, and has its keys at /jwks.
type authority struct {
	*httptest.Server
	key signingKey

	mu       sync.Mutex // guards what follows
	forms    []url.Values
	refuse   func(w http.ResponseWriter, r *http.Request) bool // before anything else
	formOnly bool                                              // takes the client's secret in the form only
	claims   map[string]any
	subjects map[string]bool
	fetched  int // of the keys
}

const (
	clientID     = "dp:1"
	clientSecret = "s&cret /+"
)

func newAuthority(t *testing.T) *authority {
	a := &authority{key: newSigningKey(t, "k1"), claims: map[string]any{"sub": "dp", "aud": "cp-1"}, subjects: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.fetched++
		w.Write(a.key.jwks())
	})
	mux.HandleFunc("POST /token", a.token)
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

func (a *authority) token(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := r.ParseForm(); err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" {
		a.fail(w, http.StatusBadRequest, "invalid_request")
		return
	}
	a.forms = append(a.forms, r.PostForm)
	switch {
	case a.refuse != nil && a.refuse(w, r):
	case r.PostForm.Get("grant_type") == "client_credentials":
		if !a.knows(r) {
			w.Header().Set("WWW-Authenticate", "Basic")
			a.fail(w, http.StatusUnauthorized, "invalid_client")
			return
		}
		a.grant(w, map[string]any{"token_type": "Bearer"})
	case r.PostForm.Get("grant_type") == grantTokenExchange:
		_, _, basic := r.BasicAuth()
		switch {
		case basic || r.PostForm.Has("client_id") || r.PostForm.Has("client_secret"):
			a.fail(w, http.StatusBadRequest, "invalid_request")
		case r.PostForm.Get("subject_token_type") != typeJWT || !a.subjects[r.PostForm.Get("subject_token")]:
			a.fail(w, http.StatusBadRequest, "invalid_grant")
		case !r.PostForm.Has("resource") || !r.PostForm.Has("audience"):
			a.fail(w, http.StatusBadRequest, "invalid_target")
		default:
			a.grant(w, map[string]any{"token_type": "Bearer", "issued_token_type": typeAccessToken})
		}
	default:
		a.fail(w, http.StatusBadRequest, "unsupported_grant_type")
	}
}

func (a *authority) knows(r *http.Request) bool {
	id, secret, basic := r.BasicAuth()
	if a.formOnly || !basic {
		return !basic && r.PostForm.Get("client_id") == clientID && r.PostForm.Get("client_secret") == clientSecret
	}
	id, idErr := url.QueryUnescape(id)
	secret, secretErr := url.QueryUnescape(secret)
	return idErr == nil && secretErr == nil && id == clientID && secret == clientSecret && !r.PostForm.Has("client_secret")
}

func (a *authority) grant(w http.ResponseWriter, answer map[string]any) {
	claims := map[string]any{"jti": fmt.Sprint("jti-", len(a.forms))}
	for name, value := range a.claims {
		claims[name] = value
	}
	answer["access_token"], answer["expires_in"] = a.key.sign(claims), 3600
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

func (a *authority) fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]string{"error": text, "error_description": "not with " + clientSecret})
}

// requests returns the forms that came so far.
func (a *authority) requests() []url.Values {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]url.Values(nil), a.forms...)
}

func (a *authority) fetches() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fetched
}

// unsigned returns a token with the algorithm none.
func unsigned(claims map[string]any) string {
	token := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims(claims))
	text, err := token.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		panic(err)
	}
	return text
}

//go:build linux

package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// issuer is an OAuth2 server, made of Zitadel's provider: client credentials and token exchange, access tokens that are JWTs, keys that
// change. Clients and workloads are declared in it beforehand.
type issuer struct {
	url string

	mu       sync.Mutex
	keys     []*signingKey // the last signs
	clients  map[string]*oauthClient
	workload map[string]exchanged // by subject token
	requests []tokenRequest
	lifetime time.Duration
}

// oauthClient is what the server knows of a client, and what its tokens say.
type oauthClient struct {
	id, secret string
	subject    string // "": the id
	audience   []string
	claims     map[string]any
	scopes     []string // "": what is asked for
}

// exchanged is what a workload's token is exchanged for.
type exchanged struct {
	subject string
	claims  map[string]any
}

// tokenRequest is what a client has asked for. Basic says that its credentials were in the header.
type tokenRequest struct {
	grant string
	form  url.Values
	basic bool
}

// signingKey is a key of the server, as Zitadel wants to see one that signs.
type signingKey struct {
	id  string
	key *ecdsa.PrivateKey
}

func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k *signingKey) Key() any                                    { return k.key }
func (k *signingKey) ID() string                                  { return k.id }

// publishedKey is the half of it that everyone may have.
type publishedKey struct{ *signingKey }

func (k publishedKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k publishedKey) Use() string                        { return "sig" }
func (k publishedKey) Key() any                           { return k.key.Public() }

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newIssuer returns a server that listens.
func newIssuer(t testing.TB) *issuer {
	t.Helper()
	address := freeAddress(t)
	s := &issuer{url: "http://" + address, clients: map[string]*oauthClient{}, workload: map[string]exchanged{}, lifetime: time.Hour}
	s.rotate(t)
	config := &op.Config{CryptoKey: [32]byte{1}, SupportedScopes: []string{"dps"}}
	provider, err := op.NewProvider(config, storage{issuer: s}, op.StaticIssuer(s.url), op.WithAllowInsecure())
	if err != nil {
		t.Fatal(err)
	}
	listen(t, address, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note(r)
		provider.ServeHTTP(w, r)
	}))
	return s
}

func (s *issuer) tokenEndpoint() string { return s.url + "/oauth/token" }
func (s *issuer) jwksURI() string       { return s.url + "/keys" }

// rotate makes the server sign with a new key, and publish no other.
func (s *issuer) rotate(t testing.TB) {
	t.Helper()
	key := &signingKey{id: newID()[:8], key: newKey(t)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = []*signingKey{key}
}

// note remembers a request for a token.
func (s *issuer) note(r *http.Request) {
	if r.Method != http.MethodPost || r.ParseForm() != nil {
		return
	}
	_, _, basic := r.BasicAuth()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, tokenRequest{r.PostForm.Get("grant_type"), r.PostForm, basic})
}

// asked returns the requests for tokens by a grant.
func (s *issuer) asked(grant string) []tokenRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []tokenRequest
	for _, r := range s.requests {
		if r.grant == grant {
			found = append(found, r)
		}
	}
	return found
}

// admit declares a client.
func (s *issuer) admit(c oauthClient) *oauthClient {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[c.id] = &c
	return &c
}

// trust declares what a workload's token is worth.
func (s *issuer) trust(subjectToken string, e exchanged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workload[subjectToken] = e
}

// distrust takes back the trust in a workload's token.
func (s *issuer) distrust(subjectToken string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.workload, subjectToken)
}

// token returns an access token as a client gets it.
func (s *issuer) token(t testing.TB, clientID string) string {
	t.Helper()
	s.mu.Lock()
	secret := s.clients[clientID].secret
	s.mu.Unlock()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"dps"}, "client_id": {clientID}, "client_secret": {secret}}
	resp, err := client.PostForm(s.tokenEndpoint(), form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("token of %s: %d %s", clientID, resp.StatusCode, text)
	}
	return answer.AccessToken
}

// forge signs claims of the test's own choice with the server's present key. A nil value takes a claim away from those of a good token.
func (s *issuer) forge(t testing.TB, claims map[string]any) string {
	t.Helper()
	s.mu.Lock()
	key := s.keys[len(s.keys)-1]
	s.mu.Unlock()
	all := map[string]any{
		"iss": s.url, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "jti": newID(),
	}
	return signJWT(t, jose.ES256, key.key, key.id, merged(all, claims))
}

// merged lays claims over others.
func merged(all, over map[string]any) map[string]any {
	maps.Copy(all, over)
	return all
}

// signJWT returns a signed token with the claims that are not nil. kid "" is none.
func signJWT(t testing.TB, algorithm jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		o = o.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	claims = maps.Clone(claims)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	raw, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// verify checks a token that a data plane sends: with the keys that the server publishes, as a control plane does.
func (s *issuer) verify(raw string) (map[string]any, error) {
	resp, err := client.Get(s.jwksURI())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&keys); err != nil {
		return nil, err
	}
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := token.Claims(keys, &claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// demand returns a guard for an office: the caller's token is the server's, and says these things.
func (s *issuer) demand(want map[string]string) func(*http.Request) error {
	return func(r *http.Request) error {
		raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return errors.New("no bearer token")
		}
		claims, err := s.verify(raw)
		if err != nil {
			return err
		}
		for name, value := range want {
			if !claimHas(claims[name], value) {
				return fmt.Errorf("%s is %v, not %s", name, claims[name], value)
			}
		}
		return nil
	}
}

// claimHas reports whether a claim is a value, or a list with it.
func claimHas(claim any, value string) bool {
	if list, ok := claim.([]any); ok {
		return slices.Contains(list, any(value))
	}
	return claim == any(value)
}

// storage is what Zitadel's provider asks for, as far as the two grants need it.
type storage struct {
	op.Storage
	issuer *issuer
}

var (
	_ op.ClientCredentialsStorage           = storage{}
	_ op.TokenExchangeStorage               = storage{}
	_ op.TokenExchangeTokensVerifierStorage = storage{}
)

func (s storage) Health(context.Context) error { return nil }

func (s storage) SigningKey(context.Context) (op.SigningKey, error) {
	s.issuer.mu.Lock()
	defer s.issuer.mu.Unlock()
	return s.issuer.keys[len(s.issuer.keys)-1], nil
}

func (s storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s storage) KeySet(context.Context) ([]op.Key, error) {
	s.issuer.mu.Lock()
	defer s.issuer.mu.Unlock()
	var keys []op.Key
	for _, k := range s.issuer.keys {
		keys = append(keys, publishedKey{k})
	}
	return keys, nil
}

func (s storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id == "" { // token exchange is without a client
		return oauthParty{&oauthClient{}}, nil
	}
	return s.client(id)
}

func (s storage) client(id string) (oauthParty, error) {
	s.issuer.mu.Lock()
	defer s.issuer.mu.Unlock()
	c, ok := s.issuer.clients[id]
	if !ok {
		return oauthParty{}, errors.New("unknown client")
	}
	return oauthParty{c}, nil
}

func (s storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if id == "" {
		return nil
	}
	_, err := s.ClientCredentials(context.Background(), id, secret)
	return err
}

func (s storage) ClientCredentials(_ context.Context, id, secret string) (op.Client, error) {
	c, err := s.client(id)
	if err == nil && c.secret != secret {
		err = errors.New("wrong secret")
	}
	return c, err
}

func (s storage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	c, err := s.client(id)
	return grantRequest{c.oauthClient, scopes}, err
}

func (s storage) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	s.issuer.mu.Lock()
	defer s.issuer.mu.Unlock()
	return newID(), time.Now().Add(s.issuer.lifetime), nil
}

func (s storage) GetPrivateClaimsFromRequest(_ context.Context, r op.TokenRequest, _ []string) (map[string]any, error) {
	claims := map[string]any{"scope": strings.Join(r.GetScopes(), " ")}
	if g, ok := r.(grantRequest); ok {
		claims = merged(claims, g.claims)
	}
	return claims, nil
}

func (s storage) VerifyExchangeSubjectToken(_ context.Context, raw string, _ oidc.TokenType) (string, string, map[string]any, error) {
	s.issuer.mu.Lock()
	defer s.issuer.mu.Unlock()
	e, ok := s.issuer.workload[raw]
	if !ok {
		return "", "", nil, errors.New("not a workload of ours")
	}
	return raw, e.subject, e.claims, nil
}

func (s storage) VerifyExchangeActorToken(context.Context, string, oidc.TokenType) (string, string, map[string]any, error) {
	return "", "", nil, errors.New("nobody acts for others here")
}

func (s storage) ValidateTokenExchangeRequest(_ context.Context, r op.TokenExchangeRequest) error {
	r.SetRequestedTokenType(oidc.AccessTokenType) // a JWT, since that is the only kind there is
	return nil
}

func (s storage) CreateTokenExchangeRequest(context.Context, op.TokenExchangeRequest) error {
	return nil
}

func (s storage) GetPrivateClaimsFromTokenExchangeRequest(_ context.Context, r op.TokenExchangeRequest) (map[string]any, error) {
	claims := map[string]any{"scope": strings.Join(r.GetScopes(), " ")}
	return merged(claims, r.GetExchangeSubjectTokenClaims()), nil
}

func (s storage) SetUserinfoFromTokenExchangeRequest(context.Context, *oidc.UserInfo, op.TokenExchangeRequest) error {
	return nil
}

// grantRequest is what a client gets for its credentials.
type grantRequest struct {
	*oauthClient
	asked []string
}

func (r grantRequest) GetSubject() string {
	if r.subject != "" {
		return r.subject
	}
	return r.id
}

func (r grantRequest) GetAudience() []string { return r.audience }

func (r grantRequest) GetScopes() []string {
	if len(r.scopes) > 0 {
		return r.scopes
	}
	return r.asked
}

// oauthParty is a client as Zitadel's provider sees it.
type oauthParty struct{ *oauthClient }

func (c oauthParty) GetID() string                       { return c.id }
func (c oauthParty) RedirectURIs() []string              { return nil }
func (c oauthParty) PostLogoutRedirectURIs() []string    { return nil }
func (c oauthParty) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c oauthParty) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodPost }
func (c oauthParty) ResponseTypes() []oidc.ResponseType  { return nil }
func (c oauthParty) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials, oidc.GrantTypeTokenExchange}
}
func (c oauthParty) LoginURL(string) string               { return "" }
func (c oauthParty) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (c oauthParty) IDTokenLifetime() time.Duration       { return time.Hour }
func (c oauthParty) DevMode() bool                        { return true }
func (c oauthParty) IsScopeAllowed(string) bool           { return true }
func (c oauthParty) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c oauthParty) ClockSkew() time.Duration             { return 0 }
func (c oauthParty) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}
func (c oauthParty) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}

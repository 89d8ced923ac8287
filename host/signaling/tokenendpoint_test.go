package signaling

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/identity"
)

// granted makes the outbound authorization of a control plane and returns the token, or the failure.
func granted(t *testing.T, o Outbound) string {
	t.Helper()
	cp := ControlPlane{ID: "cp-1", Endpoint: "https://cp.example/api", Outbound: o}.withDefaults()
	if err := cp.check(); err != nil {
		t.Fatal(err)
	}
	client := plainClient(nil)
	defer client.CloseIdleConnections()
	got := grantedBy(t, newAuthorizer(cp, client, time.Now))
	if strings.Contains(got, clientSecret) {
		t.Errorf("a secret shows: %s", got)
	}
	return got
}

func grantedBy(t *testing.T, a authorizer) string {
	t.Helper()
	r, err := newRequest(t.Context(), "GET", "https://cp.example", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.authorize(t.Context(), r); err != nil {
		return err.Error()
	}
	token, _ := bearer(r.Header)
	return token
}

func (a *authority) outbound() Outbound {
	return Outbound{Type: AuthClientCredentials, TokenEndpoint: a.URL + "/token", ClientID: clientID, ClientSecret: clientSecret}
}

func TestClientCredentials(t *testing.T) {
	tests := []struct {
		name     string
		formOnly bool
		change   func(*Outbound)
		requests int
		form     string // of the last request
		want     string // "" for a token
	}{
		{name: "basic", requests: 1, form: "grant_type=client_credentials"},
		{name: "with all", change: func(o *Outbound) { o.Scope, o.Audience, o.Resource = "a b", "cp", "https://cp.example" }, requests: 1,
			form: "audience=cp&grant_type=client_credentials&resource=https%3A%2F%2Fcp.example&scope=a+b"},
		{name: "in the form", formOnly: true, change: func(o *Outbound) { o.ClientAuth = ClientAuthPost }, requests: 1,
			form: "client_id=dp%3A1&client_secret=s%26cret+%2F%2B&grant_type=client_credentials"},
		{name: "in the form if need be", formOnly: true, requests: 2,
			form: "client_id=dp%3A1&client_secret=s%26cret+%2F%2B&grant_type=client_credentials"},
		{name: "basic only", formOnly: true, change: func(o *Outbound) { o.ClientAuth = ClientAuthBasic }, requests: 1,
			form: "grant_type=client_credentials", want: "answered 401 Unauthorized: invalid_client: not with …"},
		{name: "unknown", change: func(o *Outbound) { o.ClientID = "x" }, requests: 2,
			form: "client_id=x&client_secret=s%26cret+%2F%2B&grant_type=client_credentials", want: "answered 401 Unauthorized: invalid_client: not with …"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := newAuthority(t)
			a.formOnly = tt.formOnly
			o := a.outbound()
			if tt.change != nil {
				tt.change(&o)
			}
			got := granted(t, o)
			if tt.want != "" {
				if want := "token endpoint " + a.URL + ": " + tt.want; got != want {
					t.Errorf("%q", got)
				}
			} else if claims, err := identity.Peek(got); err != nil || claims.Subject != "dp" {
				t.Errorf("%q: %v", got, err)
			}
			forms := a.requests()
			if len(forms) != tt.requests || forms[len(forms)-1].Encode() != tt.form {
				t.Errorf("requests %v", forms)
			}
		})
	}
}

func TestWhereTheSecretGoesIsRemembered(t *testing.T) {
	a := newAuthority(t)
	a.formOnly = true
	o := a.outbound()
	o.SingleUse = true
	client := plainClient(nil)
	defer client.CloseIdleConnections()
	authorizer := newAuthorizer(ControlPlane{Outbound: o}, client, time.Now)
	first, second := grantedBy(t, authorizer), grantedBy(t, authorizer)
	if n := len(a.requests()); n != 3 || first == second {
		t.Errorf("%d requests for two tokens", n)
	}
}

func TestTokenExchange(t *testing.T) {
	a := newAuthority(t)
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	client := plainClient(nil)
	defer client.CloseIdleConnections()
	cp := ControlPlane{ID: "cp-1", Endpoint: "https://cp.example/api", Outbound: Outbound{Type: AuthTokenExchange,
		TokenExchangeEndpoint: a.URL + "/token", SubjectTokenFile: file, Scope: "dps", SingleUse: true}}
	authorizer := newAuthorizer(cp, client, time.Now)
	a.subjects["first"], a.subjects["second"] = true, true

	write("first\n")
	if got := grantedBy(t, authorizer); len(strings.Split(got, ".")) != 3 {
		t.Error(got)
	}
	write("second") // what issues it replaces it
	if got := grantedBy(t, authorizer); len(strings.Split(got, ".")) != 3 {
		t.Error(got)
	}
	want := "audience=cp-1&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange" +
		"&requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&resource=https%3A%2F%2Fcp.example%2Fapi" +
		"&scope=dps&subject_token=second&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt"
	if forms := a.requests(); len(forms) != 2 || forms[1].Encode() != want {
		t.Errorf("requests %v", forms)
	}

	for text, want := range map[string]string{
		"":                                    "has no token",
		" \n ":                                "has no token",
		"two words":                           "has no token",
		"a\x00b":                              "has no token",
		strings.Repeat("x", maxTokenAnswer+1): "has no token",
		"hunter2":                             "answered 400 Bad Request: invalid_grant",
	} {
		authorizer = newAuthorizer(cp, client, time.Now)
		write(text)
		if got := grantedBy(t, authorizer); !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%.20q: %s", text, got)
		}
	}
	os.Remove(file)
	if got := grantedBy(t, newAuthorizer(cp, client, time.Now)); !strings.Contains(got, "no such file") {
		t.Error(got)
	}
}

// TestTokenEndpointFails: what an operator reads, and that the authorization server's wishes are known.
func TestTokenEndpointFails(t *testing.T) {
	a := newAuthority(t)
	for name, tt := range map[string]struct {
		refuse func(w http.ResponseWriter, r *http.Request) bool
		want   string
	}{
		"busy": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "90")
			w.WriteHeader(503)
			return true
		}, "answered 503 Service Unavailable"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/elsewhere?secret="+clientSecret, http.StatusTemporaryRedirect)
			return true
		}, "answered 307 Temporary Redirect"},
		"page": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Write([]byte("<html>"))
			return true
		}, "the answer cannot be read: the message is not JSON: invalid character '<' looking for beginning of value at byte 1"},
		"endless": {func(w http.ResponseWriter, r *http.Request) bool {
			for range 100 {
				w.Write(make([]byte, 1<<10))
			}
			return true
		}, "the answer is longer than 65536 bytes"},
		"cut": {func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			a.mu.Lock()
			a.refuse = tt.refuse
			a.mu.Unlock()
			o := a.outbound()
			o.ClientAuth = ClientAuthBasic
			if got, want := granted(t, o), "token endpoint "+a.URL+": "+tt.want; got != want {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestDecodeGrant(t *testing.T) {
	now := time.Now()
	expiring := newSigningKey(t, "").sign(map[string]any{"exp": now.Add(10 * time.Minute).Unix()})
	for body, want := range map[string]any{
		`{"access_token":"a","token_type":"Bearer","expires_in":3600}`:                   3570 * time.Second,
		`{"access_token":"a","token_type":"bearer","expires_in":"3600"}`:                 3570 * time.Second,
		`{"access_token":"a","expires_in":100.0}`:                                        90 * time.Second,
		`{"access_token":"a"}`:                                                           defaultLifetime - maxMargin,
		`{"access_token":"a","expires_in":null,"x":{"y":[]}}`:                            defaultLifetime - maxMargin,
		`{"access_token":"a","expires_in":0}`:                                            time.Duration(0),
		`{"access_token":"a","expires_in":1e300}`:                                        maxLifetime - maxMargin,
		`{"access_token":"` + expiring + `","expires_in":36000}`:                         9*time.Minute + 30*time.Second,
		`{"access_token":"` + newSigningKey(t, "").sign(map[string]any{"exp": 1}) + `"}`: -time.Hour,
		`{"access_token":"a","expires_in":-1}`:                                           "expires_in: is not a number of seconds",
		`{"access_token":"a","expires_in":"soon"}`:                                       "expires_in: is not a number of seconds",
		`{"access_token":"a","expires_in":"NaN"}`:                                        "expires_in: is not a number of seconds",
		`{"access_token":"a","expires_in":[]}`:                                           "expires_in: is an array",
		`{"token_type":"Bearer"}`:                                                        "access_token: is required",
		`{"access_token":""}`:                                                            "access_token: is empty",
		`{"access_token":7}`:                                                             "access_token: is a number",
		`{"access_token":"a","access_token":"b"}`:                                        "is there twice",
		`{"access_token":"a\nX-Evil: b"}`:                                                "characters that no token has",
		`{"access_token":"ü"}`:                                                           "characters that no token has",
		`{"access_token":"a","token_type":"N_A"}`:                                        `token_type "N_A" is not supported`,
		`{"access_token":"a","token_type":"DPoP"}`:                                       `token_type "DPoP" is not supported`,
		`[]`: "is an array",
		``:   "is not JSON",
	} {
		g, err := decodeGrant([]byte(body), now)
		switch want := want.(type) {
		case string:
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", body, err)
			}
		case time.Duration:
			if left := g.until.Sub(now); err != nil || want >= 0 && (left > want || left < want-time.Second) || want < 0 && left > want {
				t.Errorf("%s: %v, %v", body, left, err)
			}
		}
	}
}

func FuzzDecodeGrant(f *testing.F) {
	f.Add([]byte(`{"access_token":"a.b.c","token_type":"Bearer","expires_in":3600,"scope":"x"}`))
	f.Add([]byte(`{"access_token":"a","expires_in":"1e9"}`))
	f.Add([]byte(`{"error":"invalid_client","error_description":"no"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		now := time.Now()
		g, err := decodeGrant(body, now)
		if err == nil && (!isToken(g.token) || g.until.After(now.Add(maxLifetime))) {
			t.Errorf("%+v of %q", g, body)
		}
		e := newOAuthError(&http.Response{StatusCode: 400, Header: http.Header{}}, body, "hunter2", now)
		if text := e.Error(); strings.Contains(text, "hunter2") || strings.ContainsAny(text, "\r\n\x1b") {
			t.Errorf("%q of %q", text, body)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"120", "-1", "99999999999999999999", "Sat, 01 Jan 2000 00:05:00 GMT", "soon", ""} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if delay := askedDelay(http.Header{"Retry-After": {value}}, time.Now()); delay < 0 {
			t.Errorf("%q: %v", value, delay)
		}
	})
}

func TestStaticHeaders(t *testing.T) {
	for name, tt := range map[string]struct {
		a    authorizer
		want http.Header
	}{
		"bearer":  {newAuthorizer(ControlPlane{Outbound: Outbound{Type: AuthStatic, Secret: "s"}}, nil, nil), http.Header{"Authorization": {"Bearer s"}}},
		"key":     {newAuthorizer(ControlPlane{Outbound: Outbound{Type: AuthStatic, Header: "x-api-key", Secret: "s"}}, nil, nil), http.Header{"X-Api-Key": {"s"}}},
		"headers": {newStaticHeaders(map[string]string{"authorization": "Basic s", "x-y": "z"}, false), http.Header{"Authorization": {"Basic s"}, "X-Y": {"z"}}},
		"none":    {newAuthorizer(ControlPlane{}, nil, nil), http.Header{}},
	} {
		r := &http.Request{Header: http.Header{}}
		if err := tt.a.authorize(t.Context(), r); err != nil || tt.a.refused(r) {
			t.Errorf("%s: %v, or there is more to try", name, err)
		}
		if diff := cmp.Diff(tt.want, r.Header); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

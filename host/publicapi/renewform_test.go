package publicapi

import (
	"crypto"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/sdk"
)

func TestFormsOfTheRequest(t *testing.T) {
	w := newRenewing(t, nil)
	p := w.newParty(them)
	a := w.offer("f", them)
	good := grant(a.Get("refreshToken"))
	long := "&x=" + strings.Repeat("x", maxGrant)
	signed := p.sign(a.Get("authorization"), nil)
	type header = map[string]string
	for _, tc := range []struct {
		name, method, query, body string
		header                    header
		status                    int
		code                      string
	}{
		{"GET", "GET", good, "", nil, 405, "invalid_request"},
		{"PUT", "PUT", "", good, header{"Content-Type": formType}, 405, "invalid_request"},
		{"DELETE", "DELETE", good, "", nil, 405, "invalid_request"},
		{"OPTIONS", "OPTIONS", good, "", nil, 405, "invalid_request"},
		{"JSON", "POST", "", `{"grant_type":"refresh_token"}`, header{"Content-Type": "application/json"}, 415, "invalid_request"},
		{"multipart", "POST", "", good, header{"Content-Type": "multipart/form-data; boundary=x"}, 415, "invalid_request"},
		{"malformed type", "POST", "", good, header{"Content-Type": "/;;"}, 415, "invalid_request"},
		{"compressed", "POST", "", good, header{"Content-Type": formType, "Content-Encoding": "gzip"}, 415, "invalid_request"},
		{"long", "POST", "", good + long, header{"Content-Type": formType}, 413, "invalid_request"},
		{"nothing", "POST", "", "", nil, 400, "invalid_request"},
		{"another grant", "POST", "", "grant_type=password&refresh_token=x", nil, 400, "unsupported_grant_type"},
		{"contradiction", "POST", "refresh_token=x", good, nil, 400, "invalid_request"},
		{"malformed", "POST", "", "grant_type=%zz", nil, 400, "invalid_request"},
	} {
		h := maps.Clone(tc.header)
		if h == nil {
			h = header{}
		}
		h["Authorization"] = "Bearer " + signed
		for _, length := range []string{"known", "unknown"} {
			var body io.Reader
			if tc.body != "" {
				body = strings.NewReader(tc.body)
				if length == "unknown" {
					body = struct{ io.Reader }{body}
				}
			}
			res := w.do(sdk.DataAddress{}, w.server.URL+"/token?"+tc.query, request{method: tc.method, body: body, header: h})
			res.wantRefusal(t, tc.name, tc.status, tc.code)
			if allow := res.Header.Get("Allow"); (allow == "POST") != (tc.status == 405) {
				t.Errorf("%s: Allow %q", tc.name, allow)
			}
		}
	}
	if n := w.wallet.resolutions(); n != 0 {
		t.Errorf("%d resolutions", n)
	}
	head := w.do(sdk.DataAddress{}, w.server.URL+"/token", request{method: http.MethodHead})
	if head.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", head.StatusCode)
	}

	// As in the specification's example, with a body of some type that is empty, as RFC 6749 has it, as both, and without a type.
	for _, send := range []func(refresh, signed string) response{
		func(refresh, signed string) response {
			return w.do(sdk.DataAddress{}, w.server.URL+"/token?"+grant(refresh), request{method: http.MethodPost, header: header{"Authorization": "Bearer " + signed}})
		},
		func(refresh, signed string) response {
			return w.do(sdk.DataAddress{}, w.server.URL+"/token?"+grant(refresh), request{method: http.MethodPost,
				header: header{"Authorization": "bearer " + signed, "Content-Type": "application/json"}})
		},
		func(refresh, signed string) response { return w.post(grant(refresh)+"&scope=x&client_id=y", signed) },
		func(refresh, signed string) response {
			return w.do(sdk.DataAddress{}, w.server.URL+"/token?"+grant(refresh), request{method: http.MethodPost,
				body: strings.NewReader(grant(refresh)), header: header{"Authorization": "Bearer " + signed, "Content-Type": formType + "; charset=UTF-8"}})
		},
		func(refresh, signed string) response {
			return w.do(sdk.DataAddress{}, w.server.URL+"/token", request{method: http.MethodPost, body: strings.NewReader(grant(refresh)),
				header: header{"Authorization": "Bearer " + signed}})
		},
	} {
		a = send(a.Get("refreshToken"), p.sign(a.Get("authorization"), nil)).wantTokens(t, a)
	}
}

// drip is a body that never ends and never stalls for long, on a connection whose deadlines are heeded.
type drip struct {
	http.ResponseWriter
	stopped chan struct{}
}

func (d drip) SetReadDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) {
		close(d.stopped)
	}
	return nil
}

func (d drip) SetWriteDeadline(time.Time) error { return nil }

func (d drip) Close() error { return nil }

func (d drip) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return copy(b, "x"), nil
	case <-d.stopped:
		return 0, os.ErrDeadlineExceeded
	}
}

func TestBodyThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		d := drip{httptest.NewRecorder(), make(chan struct{})}
		r := httptest.NewRequest(http.MethodPost, renewalPath, d)
		start := time.Now()
		_, err = readRefreshToken(newExchange(d, r, time.Minute, m))
		if r := refusalOf(err); r.status != http.StatusRequestTimeout || r.code != "invalid_request" {
			t.Errorf("refused with %d %s: %v", r.status, r.code, err)
		}
		if took := time.Since(start); took != grantTime {
			t.Errorf("it took %v", took)
		}
	})
}

func TestParseGrant(t *testing.T) {
	for _, tc := range []struct{ name, query, form, want, code string }{
		{"form", "", "grant_type=refresh_token&refresh_token=a", "a", ""},
		{"query", "grant_type=refresh_token&refresh_token=a", "", "a", ""},
		{"one each", "grant_type=refresh_token", "refresh_token=a%2Bb", "a+b", ""},
		{"both agree", "grant_type=refresh_token&refresh_token=a", "grant_type=refresh_token&refresh_token=a", "a", ""},
		{"others are ignored", "x=1&x=2", "grant_type=refresh_token&refresh_token=a&scope=b&scope=c", "a", ""},
		{"empty beside another", "refresh_token=&refresh_token=a", "grant_type=refresh_token", "", "invalid_request"},
		{"empty in the query", "refresh_token=", "grant_type=refresh_token&refresh_token=a", "a", ""},
		{"empty in the form", "refresh_token=a", "grant_type=refresh_token&refresh_token=", "a", ""},
		{"nothing", "", "", "", "invalid_request"},
		{"no grant", "", "refresh_token=a", "", "invalid_request"},
		{"empty grant", "", "grant_type=&refresh_token=a", "", "invalid_request"},
		{"no token", "", "grant_type=refresh_token", "", "invalid_request"},
		{"empty token", "", "grant_type=refresh_token&refresh_token=", "", "invalid_request"},
		{"other grant", "", "grant_type=client_credentials", "", "unsupported_grant_type"},
		{"other case", "", "grant_type=REFRESH_TOKEN&refresh_token=a", "", "unsupported_grant_type"},
		{"contradiction", "refresh_token=b", "grant_type=refresh_token&refresh_token=a", "", "invalid_request"},
		{"contradiction of grants", "grant_type=password", "grant_type=refresh_token&refresh_token=a", "", "invalid_request"},
		{"twice in the form", "", "grant_type=refresh_token&refresh_token=a&refresh_token=a", "", "invalid_request"},
		{"twice in the query", "grant_type=refresh_token&grant_type=refresh_token", "refresh_token=a", "", "invalid_request"},
		{"malformed query", "a=%zz", "grant_type=refresh_token&refresh_token=a", "", "invalid_request"},
		{"malformed form", "", "grant_type=refresh_token&refresh_token=%", "", "invalid_request"},
		{"semicolon", "", "grant_type=refresh_token;refresh_token=a", "", "invalid_request"},
	} {
		got, err := parseGrant(tc.query, tc.form)
		var r *refusal
		code := ""
		if errors.As(err, &r) {
			code = r.code
		}
		if got != tc.want || code != tc.code {
			t.Errorf("%s: %q, %v; want %q, %q", tc.name, got, err, tc.want, tc.code)
		}
	}
}

func FuzzGrant(f *testing.F) {
	for _, s := range [][2]string{
		{"", "grant_type=refresh_token&refresh_token=a"}, {"grant_type=refresh_token", "refresh_token=%41"}, {"refresh_token=a", "refresh_token=b"},
		{"a=%zz", ";"}, {"grant_type=x", "&&&==="},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, query, form string) {
		got, err := parseGrant(query, form)
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || r.status != http.StatusBadRequest || got != "" {
				t.Errorf("%q and %q: %q, %v", query, form, got, err)
			}
			return
		}
		// Whoever reads the request in another way that is right finds the same.
		for _, raw := range []string{query, form} {
			v, err := url.ParseQuery(raw)
			if err != nil || v.Has("refresh_token") && v.Get("refresh_token") != got && v.Get("refresh_token") != "" ||
				v.Get("grant_type") != "" && v.Get("grant_type") != "refresh_token" {
				t.Errorf("%q of %q and %q, %v", got, query, form, err)
			}
		}
		if got == "" {
			t.Errorf("%q and %q have no refresh token", query, form)
		}
	})
}

func FuzzProof(f *testing.F) {
	w := &world{t: f, wallet: &wallet{keys: map[string]crypto.PublicKey{}}}
	p := w.newParty(them)
	f.Add("Bearer " + p.sign("x", nil))
	f.Add(p.sign("x", func(_, claims map[string]any) { claims["iss"] = 7 }))
	f.Add("Bearer a.b.c")
	f.Add("Basic x")
	f.Fuzz(func(t *testing.T, field string) {
		got, err := readProof(http.Header{"Authorization": {field}})
		if err != nil {
			var r *refusal
			if !errors.As(err, &r) || r.status != http.StatusUnauthorized || r.code != "invalid_client" {
				t.Errorf("%q: %v", field, err)
			}
			return
		}
		if identity.CheckDID(got.Issuer) != nil || got.Subject != got.Issuer || got.access == "" {
			t.Errorf("%q says %+v", field, got)
		}
	})
}

func TestDescribe(t *testing.T) {
	if got, want := describe("a \"b\" \\ c\nü~"), "a 'b' ' c??~"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

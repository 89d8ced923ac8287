package signaling

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
)

const agreementText = `{"@context":["https://w3id.org/dspace/2025/1/context.jsonld"],"@id":"urn:a","@type":"Agreement","target":"asset",
	"assigner":"did:web:p","assignee":"did:web:c","timestamp":"2026-01-01T00:00:00Z","permission":[{"action":"use"}]}`

func TestAgreement(t *testing.T) {
	replace := func(old, replacement string) string { return strings.Replace(agreementText, old, replacement, 1) }
	tests := []struct {
		name  string
		code  int
		media string
		body  string
		want  string // of the error
		is    error
	}{
		{name: "there", code: 200, body: agreementText},
		{name: "one permission", code: 200, body: replace(`[{"action":"use"}]`, `{"action":"use"}`)},
		{name: "a prohibition", code: 200, body: replace("permission", "prohibition")},
		{name: "none", code: 404, is: ErrNoAgreement},
		{name: "no flow", code: 404, media: "application/json", body: `[{"message":"no such transfer"}]`, is: ErrNoAgreement},
		{name: "no such page", code: 404, media: "text/html;charset=utf-8", body: "<html>", is: ErrNotSupported},
		{name: "no such method", code: 405, is: ErrNotSupported},
		{name: "not implemented", code: 501, is: ErrNotSupported},
		{name: "refused", code: 401, body: "who?", want: "answered 401 Unauthorized: who?"},
		{name: "busy", code: 503, want: "answered 503 Service Unavailable"},
		{name: "nothing", code: 204, want: "answered 204 No Content"},
		{name: "no JSON", code: 200, body: "<html>", want: "no agreement: the message is not JSON"},
		{name: "a list", code: 200, body: "[]", want: "no agreement: the message is an array"},
		{name: "no context", code: 200, body: replace(`"@context"`, `"x"`), want: "@context: is required"},
		{name: "no id", code: 200, body: replace(`"@id"`, `"x"`), want: "@id: is required"},
		{name: "an offer", code: 200, body: replace(`"Agreement"`, `"Offer"`), want: "@type: is not Agreement"},
		{name: "no target", code: 200, body: replace(`"target"`, `"x"`), want: "target: is required"},
		{name: "no assigner", code: 200, body: replace(`"assigner"`, `"x"`), want: "assigner: is required"},
		{name: "no assignee", code: 200, body: replace(`"assignee"`, `"x"`), want: "assignee: is required"},
		{name: "no rules", code: 200, body: replace(`"permission"`, `"x"`), want: "permission: is required, or prohibition"},
		{name: "endless", code: 200, body: strings.Repeat(" ", maxAgreement+1), want: "longer than 1048576 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.EscapedPath() != "/cp/transfers/urn:f%2F1/agreement" || r.Header.Get("Authorization") != "Bearer s" {
					t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
				}
				w.Header().Set("Content-Type", tt.media)
				w.WriteHeader(tt.code)
				io.WriteString(w, tt.body)
			}))
			defer server.Close()
			a := Agreements{newDirectory(t, DirectoryOptions{ControlPlanes: []ControlPlane{
				{ID: "cp", Endpoint: server.URL + "/cp", Outbound: Outbound{Type: AuthStatic, Secret: "s"}}}})}
			got, err := a.Agreement(t.Context(), &flow.Flow{Key: flow.Key{Context: "default", ID: "urn:f/1"}, ControlPlane: "cp"})
			switch {
			case tt.is != nil && !errors.Is(err, tt.is):
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Error(err)
			case tt.is == nil && tt.want == "" && (err != nil || string(got) != tt.body):
				t.Errorf("%s, %v", got, err)
			}
			if tt.is == nil && tt.want == "" {
				conforms(t, "AgreementResponse", got)
			} else if tt.code == 200 && tt.body[0] == '{' && schemaError(t, "AgreementResponse", []byte(tt.body)) == nil {
				t.Error("the schema takes what is refused")
			}
		})
	}
}

func TestAgreementOfWhom(t *testing.T) {
	a := Agreements{newDirectory(t, DirectoryOptions{ControlPlanes: []ControlPlane{{ID: "cp", Endpoint: "https://cp.example"}}})}
	for _, f := range []*flow.Flow{
		{Key: flow.Key{Context: "default", ID: "f"}, ControlPlane: "gone"},
		{Key: flow.Key{Context: "other", ID: "f"}, ControlPlane: "cp"},
	} {
		if _, err := a.Agreement(t.Context(), f); !errors.Is(err, ErrUnknownControlPlane) {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Agreement(ctx, &flow.Flow{Key: flow.Key{Context: "default", ID: "f"}, ControlPlane: "cp"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzCheckAgreement(f *testing.F) {
	f.Add([]byte(agreementText))
	f.Add([]byte(`{"@type":["Agreement"],"@context":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkAgreement(body) == nil && checkJSON(body) != nil {
			t.Errorf("%q", body)
		}
	})
}

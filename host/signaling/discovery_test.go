package signaling

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// A registration can say where the metadata of its authorization server is, rather than what is in it.
func TestDiscovery(t *testing.T) {
	f := newFront(t)
	status, metadata := http.StatusOK, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		w.Write([]byte(metadata))
	}))
	defer server.Close()
	issuer := server.URL + "/realm"
	say := func(pairs ...string) string {
		all := map[string]string{"issuer": `"` + issuer + `"`, "token_endpoint": `"` + f.broker + `"`, "jwks_uri": `"https://broker.example/jwks"`,
			"grant_types_supported": `["urn:ietf:params:oauth:grant-type:token-exchange"]`}
		for i := 0; i < len(pairs); i += 2 {
			all[pairs[i]] = pairs[i+1]
		}
		return object(all)
	}
	message := func(pairs ...string) string {
		return registrationMessage(append([]string{".type", `"oauth2_token_exchange"`, ".metadataEndpoint", `"` + server.URL + `/meta"`,
			".tokenEndpoint", "", ".clientId", "", ".clientSecret", "", ".jwks", ""}, pairs...)...)
	}
	for _, tt := range []struct {
		name, body, metadata string
		status               int
		field, detail        string // "" if it is taken
	}{
		{name: "all of it", body: message(), metadata: say()},
		{name: "issuer that is the same", body: message(".issuer", `"`+issuer+`"`), metadata: say()},
		{name: "keys of its own", body: message(".jwksUri", `"https://keys.example/jwks"`), metadata: say()},
		{name: "nothing to find out", body: message(".issuer", `"https://broker"`, ".jwksUri", `"https://broker.example/jwks"`,
			".tokenExchangeEndpoint", `"`+f.broker+`"`), metadata: "{"},

		{name: "another issuer", body: message(".issuer", `"https://broker"`), metadata: say(), field: "authorization.issuer", detail: "metadataEndpoint names"},
		{name: "issuer elsewhere", body: message(), metadata: say("issuer", `"https://good.example"`), field: "authorization.metadataEndpoint", detail: "another host"},
		{name: "exchange elsewhere", body: message(), metadata: say("token_endpoint", `"https://thief.example"`), field: "authorization.tokenExchangeEndpoint", detail: "has configured"},
		{name: "keys in a network", body: message(), metadata: say("jwks_uri", `"https://10.0.0.1/"`), field: "authorization.jwksUri", detail: "private"},
		{name: "no keys", body: message(), metadata: say("jwks_uri", ""), field: "authorization.metadataEndpoint", detail: "jwks_uri: is required"},
		{name: "no JSON", body: message(), metadata: "<html>hunter2", field: "authorization.metadataEndpoint", detail: "no metadata"},
		{name: "twice", body: message(), metadata: `{"issuer":"a","issuer":"b"}`, field: "authorization.metadataEndpoint", detail: "twice"},
		{name: "too long", body: message(), metadata: strings.Repeat(" ", maxMetadata+1), field: "authorization.metadataEndpoint", detail: "more than"},
		{name: "not there", body: message(), status: 404, field: "authorization.metadataEndpoint", detail: "answered 404"},
		{name: "metadata in a network", body: message(".metadataEndpoint", `"https://10.0.0.1/meta"`), field: "authorization.metadataEndpoint", detail: "private"},
		{name: "no URL", body: message(".metadataEndpoint", `"meta"`), field: "authorization.metadataEndpoint", detail: "URL"},
		{name: "for client credentials", body: registrationMessage(".tokenEndpoint", "", ".metadataEndpoint", `"`+server.URL+`"`),
			metadata: say(), field: "authorization.tokenEndpoint", detail: "is required"},
	} {
		status, metadata = http.StatusOK, tt.metadata
		if tt.status != 0 {
			status = tt.status
		}
		w := f.put("alice-key", tt.body)
		if tt.field == "" {
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
			}
			continue
		}
		if p := problemIn(t, w); w.Code != http.StatusBadRequest || p.Field != tt.field || !strings.Contains(p.Detail, tt.detail) {
			t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "hunter2") {
			t.Errorf("%s: the answer is repeated: %s", tt.name, w.Body)
		}
	}
	kept, err := f.documents.Documents(t.Context(), documentKind)
	if err != nil || len(kept) != 1 || strings.Contains(string(kept[0].Content), "metadataEndpoint") {
		t.Errorf("kept: %v %v", kept, err)
	}
}

func FuzzDecodeMetadata(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://a.example","token_endpoint":"https://a.example/t","jwks_uri":"https://a.example/k","x":[1]}`))
	f.Add([]byte(`{"issuer":1}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := decodeMetadata(body)
		if err != nil && !errors.As(err, new(*flow.RequestError)) {
			t.Errorf("%T: %v", err, err)
		}
		if err == nil && (a.Issuer == "" || a.TokenExchangeEndpoint == "" || a.JWKSURI == "") {
			t.Errorf("%+v", a)
		}
	})
}

//go:build linux

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// holding is a consumer's configuration: it has no sink for the dataset, and is did:web:HOST of env.
const holding = `
participant_context "default" {
  did = env("E2E_DID")
}

outbound {
  allow = ["loopback"]
}

profile "renewable-pull" {
  type       = "HttpData"
  allow_http = true
  renewal    = "require"
}
`

// A consumer holds the address of a pull for local applications, and keeps its token fresh: the provider's tokens last three seconds.
// Applications get the address, or read through the host; suspended and terminated flows give nothing away.
func TestAddressIsHeldForLocalApplications(t *testing.T) {
	t.Parallel()
	document := ""
	didHost := strings.TrimPrefix(serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/did.json" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(document))
	}), "http://")
	did := "did:web:" + strings.Replace(didHost, ":", "%3A", 1)
	const providerDID = "did:web:provider.example"
	provider := newHost(t, "provider", strings.Replace(holding, `did = env("E2E_DID")`, `did = "`+providerDID+`"`, 1), "E2E_TOKEN_LIFETIME=3s")
	consumer := newHost(t, "consumer", holding, "E2E_DID="+did)
	code, stdout, stderr := towpath(t, consumer.env, "participants", "document", "-config", consumer.config, "default")
	if code != 0 {
		t.Fatalf("participants document: %d %s", code, stderr)
	}
	document = stdout
	want := makeTree(t, provider.outbox(), 21, mib)
	provider.start()
	consumer.start()

	give := func(id, us, them string) message {
		m := creation(id, "renewable-pull", "tree", nil)
		m["participantId"], m["counterPartyId"] = us, them
		if us == did {
			m["datasetId"] = "something we have no sink for"
		}
		return m
	}
	started := provider.signal("start", give("p", providerDID, did))
	consumer.signal("prepare", give("c", did, providerDID))
	consumer.signal("c/started", message{"messageId": newID(), "dataAddress": started.DataAddress})
	first := started.DataAddress.token()
	if first == "" || started.DataAddress.property("refreshToken") == "" {
		t.Fatalf("the provider's address: %+v", started.DataAddress)
	}

	// The token is another one, several times over, and always works.
	seen := map[string]bool{first: true}
	eventually(t, "the token is renewed three times", func() bool {
		var a struct {
			Endpoint   string
			Properties map[string]string
		}
		consumer.ask("/api/v1/flows/c/address", &a)
		seen[a.Properties["authorization"]] = true
		if code, text, err := fetch(a.Endpoint, a.Properties["authorization"]); err != nil || code != http.StatusOK {
			t.Fatalf("the address that the consumer holds answers %d %s %v", code, text, err)
		}
		return len(seen) > 3
	})
	if code, text, _ := fetch(started.DataAddress.Endpoint, first); code != http.StatusUnauthorized && code != http.StatusForbidden {
		t.Errorf("the first token still works: %d %s", code, text)
	}

	// A restart in between: the host goes on with what it has stored.
	consumer.kill()
	consumer.start()

	// Applications read through the host: the list, and every part.
	var list struct{ Parts []struct{ Name, Href string } }
	consumer.ask("/api/v1/flows/c/data", &list)
	place := t.TempDir()
	for _, p := range list.Parts {
		code, text, err := fetch(consumer.admin+"/api/v1/flows/c/"+strings.TrimPrefix(p.Href, "./"), "")
		if err != nil || code != http.StatusOK {
			t.Fatalf("part %s: %d %s %v", p.Name, code, text, err)
		}
		file := filepath.Join(place, filepath.FromSlash(p.Name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, text)
	}
	expectTree(t, place, want)

	// The command gives the token for curl.
	code, stdout, stderr = towpath(t, nil, "flows", "address", "c", "-token", "-admin", consumer.admin)
	if code != 0 || strings.TrimSpace(stdout) == "" || seen[first] && strings.TrimSpace(stdout) == first {
		t.Errorf("flows address: %d %q %s", code, stdout, stderr)
	}

	consumer.signal("c/suspend", nil)
	for _, path := range []string{"address", "data"} {
		code, text, err := fetch(consumer.admin+"/api/v1/flows/c/"+path, "")
		if err != nil || code < 400 || code >= 500 {
			t.Errorf("%s of a suspended flow: %d %s %v", path, code, text, err)
		}
	}
	if code, _, _ := towpath(t, nil, "flows", "address", "c", "-admin", consumer.admin); code == 0 {
		t.Error("flows address of a suspended flow succeeds")
	}
	for _, secret := range []string{first, started.DataAddress.property("refreshToken"), strings.TrimSpace(stdout)} {
		for _, h := range []*host{provider, consumer} {
			if strings.Contains(h.process.stderr.String(), secret) {
				t.Errorf("a token is in the log of the %s", h.name)
			}
		}
	}
}

// property returns a property of an address.
func (a *dataAddress) property(name string) string {
	for _, p := range a.EndpointProperties {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

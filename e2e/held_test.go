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

// renewing is a provider whose tokens do not last, and a consumer with a DID who renews them.
type renewing struct {
	provider, consumer *host
	did                string // of the consumer
}

const providerDID = "did:web:provider.example"

func newRenewing(t testing.TB, lifetime string) *renewing {
	t.Helper()
	document := ""
	didHost := strings.TrimPrefix(serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/did.json" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(document))
	}), "http://")
	d := &renewing{did: "did:web:" + strings.Replace(didHost, ":", "%3A", 1)}
	d.provider = newHost(t, "provider", holding, "E2E_DID="+providerDID, "E2E_TOKEN_LIFETIME="+lifetime)
	d.consumer = newHost(t, "consumer", holding, "E2E_DID="+d.did)
	code, stdout, stderr := towpath(t, d.consumer.env, "participants", "document", "-config", d.consumer.config, "default")
	if code != 0 {
		t.Fatalf("participants document: %d %s", code, stderr)
	}
	document = stdout
	d.provider.start()
	d.consumer.start()
	return d
}

// startPull has both sides agree on a pull of the tree, under another name at the consumer. The flows are "p" and "c".
func (d *renewing) startPull(consumerDataset string) answer {
	start, prepare := creation("p", "renewable-pull", "tree", nil), creation("c", "renewable-pull", consumerDataset, nil)
	start["participantId"], start["counterPartyId"] = providerDID, d.did
	prepare["participantId"], prepare["counterPartyId"] = d.did, providerDID
	started := d.provider.signal("start", start)
	d.consumer.signal("prepare", prepare)
	d.consumer.signal("c/started", message{"messageId": newID(), "dataAddress": started.DataAddress})
	return started
}

// A consumer holds the address of a pull for local applications, and keeps its token fresh: the provider's tokens last three seconds.
// Applications get the address, or read through the host; suspended and terminated flows give nothing away.
func TestAddressIsHeldForLocalApplications(t *testing.T) {
	t.Parallel()
	d := newRenewing(t, "3s")
	provider, consumer := d.provider, d.consumer
	want := makeTree(t, provider.outbox(), 21, mib)
	started := d.startPull("something we have no sink for")
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
	code, stdout, stderr := towpath(t, nil, "flows", "address", "c", "-token", "-admin", consumer.admin)
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

// A pull of many files takes longer than a token lasts: the requests of the transfer are refused again and again, and it goes on with
// renewed ones.
func TestTransferRenewsItsToken(t *testing.T) {
	t.Parallel()
	d := newRenewing(t, "2s")
	want := makeTree(t, d.provider.outbox(), 22, 16*mib)
	d.provider.network.rate.Store(3 * mib)
	d.startPull("tree")
	d.consumer.controlPlane.expect(t, "c", "completed")
	expectTree(t, d.consumer.inbox(), want)
	d.provider.signal("p/completed", nil)
	d.provider.expectState("p", "COMPLETED")
}

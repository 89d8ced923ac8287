//go:build linux

package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

const accessStory = `
access {
  default = "deny"

  rule "gold members" {
    effect = "allow"
    when   = try(claims.tier, "") == "gold" && operation == "pull-part"
  }

  rule "closed inbox" {
    effect = "deny"
    when   = role == "consumer" && startswith(operation, "ingest")
  }

  rule "labelled" {
    effect = "allow"
    when   = claims.label == "x" && part == "b.bin"
  }

  decision_point {
    url     = env("E2E_DECISION_POINT")
    timeout = "20s"
    headers = { "X-Api-Key" = secret("key.secret") }
  }
}
`

// Rules decide about requests with good tokens, then the decision point, and who is refused learns by what.
func TestAccess(t *testing.T) {
	t.Parallel()
	var asked, down atomic.Int64
	point := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var said struct {
			Flow, Counterparty, Operation, Part string
			Claims                              map[string]any
			Headers                             map[string]string
		}
		if err := json.NewDecoder(r.Body).Decode(&said); err != nil || r.Header.Get("X-Api-Key") != "s3cret-key" || said.Headers["authorization"] != "" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		switch {
		case down.Load() > 0:
			http.Error(w, "down", http.StatusServiceUnavailable)
		case said.Flow == "plain" && said.Counterparty == "did:web:them.example" && said.Operation == "pull-part" && said.Part == "a.bin":
			io.WriteString(w, `{"allow":true}`)
		default:
			io.WriteString(w, `{"allow":false,"reason":"only a.bin"}`)
		}
	})
	h := newHost(t, "provider", accessStory, "E2E_DECISION_POINT="+point)
	if err := os.WriteFile(filepath.Join(h.config, "key.secret"), []byte("s3cret-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.bin", "b.bin"} {
		writeFile(t, filepath.Join(h.outbox(), name), "content of "+name)
	}
	h.start()
	start := func(id string, claims message) *dataAddress {
		m := creation(id, "http-pull", "tree", nil)
		m["claims"] = claims
		return h.signal("start", m).DataAddress
	}
	gold, plain := start("gold", message{"tier": "gold", "label": "y"}), start("plain", message{"tier": "none", "label": "y"})
	broken := start("broken", message{"tier": "none"})

	for _, c := range []struct {
		what string
		to   *dataAddress
		path string
		code int
		says string
	}{
		{"a rule allows", gold, "/parts/b.bin", 200, "content of b.bin"},
		{"the decision point allows", plain, "/parts/a.bin", 200, "content of a.bin"},
		{"the decision point denies", plain, "/parts/b.bin", 403, "denied by the decision point: only a.bin"},
		{"the decision point denies what the rule does not allow", gold, "", 403, "denied by the decision point: only a.bin"},
		{"a rule that fails denies", broken, "/parts/b.bin", 403, `denied by the rule \"labelled\": the rule could not be evaluated`},
	} {
		code, text, err := fetch(c.to.Endpoint+c.path, c.to.token())
		if err != nil || code != c.code || !strings.Contains(text, c.says) ||
			code == 403 && !strings.Contains(text, "urn:towpath:problem:access-denied") {
			t.Errorf("%s: %d %s %v, not %d %s", c.what, code, text, err, c.code, c.says)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("the decision point was asked %d times", n)
	}

	inbox := h.signal("prepare", creation("inbox", "http-push", "tree", nil)).DataAddress
	req, err := http.NewRequest(http.MethodPut, inbox.Endpoint+"/new.bin", strings.NewReader("new"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+inbox.token())
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(text), `denied by the rule \"closed inbox\"`) {
		t.Errorf("an ingest: %d %s", resp.StatusCode, text)
	}
	if _, err := os.Stat(filepath.Join(h.inbox(), "new.bin")); err == nil {
		t.Error("what was refused is there")
	}

	down.Store(1)
	code, said, err := fetch(plain.Endpoint+"/parts/a.bin", plain.token())
	if err != nil || code != 403 || !strings.Contains(said, "denied by the decision point: it could not decide") {
		t.Errorf("without a decision point: %d %s %v", code, said, err)
	}
	_, metrics, err := fetch(h.admin+"/metrics", "")
	for _, want := range []string{
		`towpath_access_decisions_total{by="rule",outcome="allowed",rule="gold members"} 1`,
		`towpath_access_decisions_total{by="rule",outcome="denied",rule="closed inbox"} 1`,
		`towpath_access_decisions_total{by="rule",outcome="failed",rule="labelled"} 1`,
		`towpath_access_decisions_total{by="decision_point",outcome="allowed",rule=""} 1`,
		`towpath_access_decisions_total{by="decision_point",outcome="denied",rule=""} 2`,
		`towpath_access_decisions_total{by="decision_point",outcome="failed",rule=""} 1`,
	} {
		if err != nil || !strings.Contains(metrics, want) {
			t.Errorf("metrics without %s: %v", want, err)
		}
	}
	h.stop()
	if logs := h.logs(); strings.Contains(logs, "s3cret-key") || strings.Contains(logs, "eyJ") {
		t.Error("a secret is in the log")
	}
}

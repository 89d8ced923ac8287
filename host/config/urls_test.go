package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

func TestDIDs(t *testing.T) {
	for text, want := range map[string]bool{
		"did:web:example.com": true, "did:web:example.com%3A8443:a:b": true, "did:key:z6Mk": true, "did:example:a.b_c-d%20": true,
		"did:web:example.com:a:8080": true, "did:web:example.com:8080": false, "did:web:example.com:8080:a": false,
		"": false, "did": false, "did:web": false, "did:web:": false, "did:Web:a": false, "did:web:a:": false, "did:web:a/b": false,
		"did:web:a?b": false, "did:web:a#b": false, "did:web:a%3": false, "did:web:a b": false, "https://example.com": false, " did:web:a": false,
		"did:web:a\n": false,
	} {
		if _, err := did(cty.StringVal(text)); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAllowable(t *testing.T) {
	for entry, want := range map[string]bool{
		"loopback": true, "example.com": true, "example.com:443": true, "10.0.0.0/8": true, "10.1.2.3": true, "10.1.2.3:80": true,
		"::1": true, "[::1]": true, "[::1]:80": true, "fd00::/8": true, "0.0.0.0/0": true,
		"": false, "*": false, "*.example.com": false, "https://example.com": false, "example.com/path": false, "example.com:": false,
		"example.com:https": false, "example.com:0": false, "example.com:70000": false, ":80": false, "10.0.0.0/33": false, "a b": false,
		"user@example.com": false, "[example.com]": false,
	} {
		if got := allowable(entry); got != want {
			t.Errorf("%q: got %v", entry, got)
		}
	}
}

func TestPlainHTTPAllowed(t *testing.T) {
	const plain = `dataplane "d" {}
control_plane "cp" {
  endpoint = "http://cp.example.com"
  authorization "oauth2_client_credentials" {
    jwks_uri = "http://cp.example.com/jwks"
  }
}
plugins {
  directory = "plugins"
}
profile "http-pull" {}
`
	wantError(t, plain, ":5:16: Plain HTTP; jwks_uri: ")
	if _, err := Load(write(t, plain+"outbound {\n  allow_http = true\n}\n")); err != nil {
		t.Error(err)
	}
}

func TestStrictProfileNeedsHTTPS(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "public")
	const certified = "tls {\n    certificate = \"public.pem\"\n    key = \"public.key\"\n  }"
	for name, c := range map[string]struct {
		public, dataset, profile string
		ok                       bool
	}{
		"plain HTTP":                      {"", `source "X" {}`, "", false},
		"port that is not known":          {`address = "127.0.0.1:0"`, `source "X" {}`, "", false},
		"any port with TLS":               {`address = "127.0.0.1:0"` + "\n" + certified, `source "X" {}`, "", true},
		"TLS":                             {certified, `source "X" {}`, "", true},
		"TLS ended elsewhere":             {`url = "https://example.com"`, `source "X" {}`, "", true},
		"TLS, and told otherwise":         {`url = "http://example.com"` + "\n" + certified, `source "X" {}`, "", false},
		"HTTP allowed":                    {"", `source "X" {}`, "allow_http = true", true},
		"not strict":                      {"", `source "X" {}`, "strict = false", true},
		"addresses made by a plugin":      {"", `source "X" {}`, `provision = "X"`, true},
		"nothing to serve in a direction": {"", `sink "X" {}`, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, "towpath.hcl")
			text := fmt.Sprintf("%slisten \"public\" {\n  %s\n}\ndataset \"a\" {\n  %s\n}\nprofile \"%shttp-pull\" {\n  %s\n}\n",
				minimal, c.public, c.dataset, registeredProfiles, c.profile)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(file)
			if c.ok && err != nil || !c.ok && (err == nil || !strings.Contains(err.Error(), "No HTTPS")) {
				t.Errorf("got %v", err)
			}
		})
	}
}

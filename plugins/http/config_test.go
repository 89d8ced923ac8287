package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

// quiet is a log for servers whose clients are meant to go away.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// The defaults that an operator reads are those in force.
func TestDefaults(t *testing.T) {
	values := block{}
	for _, f := range configSchema().Fields {
		if f.Documentation == "" {
			t.Errorf("%s has no documentation", f.Name)
		}
		if f.Default == "" {
			continue
		}
		if err := f.CheckValue(f.Default); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		values[f.Name] = f.Default
		if f.Kind == sdk.Bool {
			values[f.Name] = f.Default == "true"
		}
	}
	text, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	var got settings
	if err := (sdk.Config{JSON: text}).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaultSettings(), got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestSchemasAreDocumented(t *testing.T) {
	p := newPlugin()
	for _, schema := range []sdk.Schema{p.Sources[0].Address, p.Sinks[0].Address} {
		seen := map[string]bool{}
		for _, f := range schema.Fields {
			if f.Documentation == "" || seen[f.Name] {
				t.Errorf("field %s has no documentation, or is there twice", f.Name)
			}
			seen[f.Name] = true
		}
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	certificate, key, _ := newClientCertificate(t)
	missing := filepath.Join(t.TempDir(), "missing.pem")
	empty := writePEM(t, "empty.pem")
	private := writePEM(t, "key.pem", &pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	for _, tt := range []struct {
		name  string
		block block
		says  string
	}{
		{"allow", block{"allow": []string{"loopback", "10.0.0.0/99"}}, "allow"},
		{"allow is no list", block{"allow": "loopback"}, "configuration"},
		{"timeout", block{"timeout": "0s"}, "timeout"},
		{"timeout is none", block{"timeout": "soon"}, "configuration"},
		{"idle_timeout", block{"idle_timeout": "-1s"}, "idle_timeout"},
		{"redirects", block{"redirects": "some"}, "redirects"},
		{"size", block{"max_error_body": "1GB"}, "configuration"},
		{"ca_file missing", block{"ca_file": missing}, "ca_file"},
		{"ca_file empty", block{"ca_file": empty}, "ca_file"},
		{"ca_file is a key", block{"ca_file": private}, "ca_file"},
		{"certificate without key", block{"client_certificate": certificate}, "client_key"},
		{"key without certificate", block{"client_key": key}, "client_certificate"},
		{"certificate missing", block{"client_certificate": missing, "client_key": key}, "client_certificate"},
		{"certificate is a key", block{"client_certificate": key, "client_key": key}, "client_certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, err := json.Marshal(tt.block)
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, newPlugin().Configure(t.Context(), sdk.Config{JSON: text}), sdk.Invalid, false, tt.says)
		})
	}
}

func TestConfigureWithoutABlock(t *testing.T) {
	if err := newPlugin().Configure(t.Context(), sdk.Config{}); err != nil {
		t.Error(err)
	}
}

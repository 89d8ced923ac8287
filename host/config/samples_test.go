package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"

	"github.com/towpath-dataplane/towpath/sdk"
)

const samples = "../../configs"

func TestSamples(t *testing.T) {
	root, err := filepath.Abs(filepath.Dir(samples))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sampleNames(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			c, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			plugins := shippedPlugins()
			if filepath.Base(name) == "mail.hcl" {
				plugins = mailPlugins()
			}
			if err := c.Check(plugins); err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(shown(reflect.ValueOf(*c)), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(filepath.Base(name), ".hcl") + ".json"
			goldenCase{golden: filepath.Join("testdata", "samples", golden), dir: root}.compare(t, append(got, '\n'))
		})
	}
}

func sampleNames(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(samples, "*.hcl"))
	if err != nil || len(names) == 0 {
		t.Fatalf("samples %v: %v", names, err)
	}
	return names
}

// The demo hands free ports and its own folders over in the environment.
func TestDemoSamplesTakeTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"TOWPATH_SIGNALING":     "127.0.0.1:1",
		"TOWPATH_PUBLIC":        "127.0.0.1:2",
		"TOWPATH_ADMIN":         "127.0.0.1:3",
		"TOWPATH_CONTROL_PLANE": "http://127.0.0.1:4",
		"TOWPATH_DATA_DIR":      "/demo/data",
		"TOWPATH_PLUGINS":       "/demo/plugins",
		"TOWPATH_FILES":         "/demo/files",
	} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"provider.hcl", "consumer.hcl"} {
		c, err := Load(filepath.Join(samples, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(shippedPlugins()); err != nil {
			t.Fatal(err)
		}
		got := []string{c.Signaling.Address, c.Public.URL, c.Admin.Address, c.ControlPlanes[0].Endpoint, c.Store.Path, c.Plugins.Directory}
		want := []string{"127.0.0.1:1", "http://127.0.0.1:2", "127.0.0.1:3", "http://127.0.0.1:4", "/demo/data/towpath.db", "/demo/plugins"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		if encoded := string(c.PluginConfig("file")); !strings.Contains(encoded, `"root":"/demo/files"`) {
			t.Errorf("%s: plugin file has %s", name, encoded)
		}
	}
}

// What the reference shows in lines that begin with "#:" works as well, once the files and plugins exist.
func TestReferenceUncommented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(samples, "reference.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	uncommented := regexp.MustCompile(`(?m)^(\s*)#: `).ReplaceAll(text, []byte("$1"))
	for name, content := range map[string]string{
		"reference.hcl":    string(uncommented),
		"file.sha256":      strings.Repeat("0", 64) + "\n",
		"api-key.secret":   theSecret + "\n",
		"s3.secret":        theSecret + "\n",
		"admin.secret":     theToken + "\n",
		"alice.secret":     theToken + "\n",
		"connector.secret": theToken + "\n",
		"gateway.secret":   theToken + "\n",
		"offline.jwks":     readText(t, filepath.Join("testdata", "keys.json")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"public", "clients", "connector-ca", "client", "host", "plugins-ca"} {
		writePair(t, filepath.Join(dir, "tls"), name)
	}
	c, err := Load(filepath.Join(dir, "reference.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	remote := sdk.Description{Name: "remote", Config: sdk.Schema{Fields: []sdk.Field{{Name: "root"}}}}
	if err := c.Check(append(shippedPlugins(), remote)); err != nil {
		t.Fatal(err)
	}
	checkHidden(t, c)
	if len(c.ControlPlanes) != 5 || c.Public.TLS == nil || c.Plugins.Declared[0].SHA256 == "" {
		t.Error("the lines that begin with #: were not read")
	}
	if got := c.Datasets[0].Source.Get("authCode"); got != theSecret {
		t.Errorf("authCode is %q", got)
	}
}

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReferenceShowsEverything(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(samples, "reference.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	schemas := []*hcl.BodySchema{
		rootSchema, dataPlaneSchema, tlsSchema, storeSchema, pluginsSchema, pluginSchema, profileSchema, datasetSchema, controlPlaneSchema,
		clientTLSSchema, registrationSchema, participantContextSchema, signalingSchema, outboundSchema, tokenSchema, transferSchema,
		retrySchema, watchdogSchema, responseSchema, limitsSchema, ownLimitsSchema, telemetrySchema,
	}
	schemas = slices.AppendSeq(schemas, maps.Values(limitSchemas))
	schemas = slices.AppendSeq(schemas, maps.Values(listenSchemas))
	schemas = slices.AppendSeq(schemas, maps.Values(authorizationSchemas))
	schemas = slices.AppendSeq(schemas, maps.Values(entrySchemas))
	for _, s := range schemas {
		for _, a := range s.Attributes {
			if !regexp.MustCompile(`(?m)^\s*(#: +)?` + a.Name + `\s+= `).Match(text) {
				t.Errorf("attribute %s is not in the reference", a.Name)
			}
		}
		for _, b := range s.Blocks {
			if !regexp.MustCompile(`(?m)^\s*(#: +)?` + b.Type + ` ("[^"]+" )?\{`).Match(text) {
				t.Errorf("block %s is not in the reference", b.Type)
			}
		}
	}
	for typ := range authorizationSchemas {
		if !strings.Contains(string(text), fmt.Sprintf("authorization %q {", typ)) {
			t.Errorf("authorization %s is not in the reference", typ)
		}
	}
}

package signaling

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file below testdata.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// indent makes JSON readable.
func indent(t *testing.T, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(body), "", "  "); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// conforms checks a message against one of the package's own schemas.
func conforms(t *testing.T, name string, body []byte) {
	t.Helper()
	if err := schemaError(t, name, body); err != nil {
		t.Errorf("%s: %v\n%s", name, err, body)
	}
}

func schemaError(t *testing.T, name string, body []byte) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return compileSchema(t, name).Validate(value)
}

func compileSchema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	entries, err := schemas.ReadDir("schemas")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := schemas.ReadFile("schemas/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", entry.Name(), err)
		}
		if err := c.AddResource("https://schemas.example/"+entry.Name(), document); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile("https://schemas.example/" + name + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

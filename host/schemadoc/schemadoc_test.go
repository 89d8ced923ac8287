package schemadoc

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/towpath-dataplane/towpath/sdk"
)

var update = flag.Bool("update", false, "write the golden files")

// crane has a field of every kind, and of every trait.
var crane = sdk.Description{
	Name: "crane", Version: "1.2.3", Documentation: "Lifts *boxes*.",
	Config: sdk.Schema{Fields: []sdk.Field{
		{Name: "yard", Required: true, Documentation: "Where it stands."},
		{Name: "token", Required: true, Sensitive: true, Documentation: "Who may use it."},
		{Name: "night", Kind: sdk.Bool, Default: "true", Documentation: "Work at night."},
		{Name: "arms", Kind: sdk.Int, Default: "2", Documentation: "How many."},
		{Name: "pause", Kind: sdk.Duration, Default: "1m30s", Documentation: "Between two boxes."},
		{Name: "load", Kind: sdk.Size, Documentation: "The most it lifts."},
		{Name: "home", Kind: sdk.URL, Documentation: "Its page."},
		{Name: "names", Kind: sdk.StringList, Documentation: "What it is called."},
		{Name: "labels", Kind: sdk.StringMap, Documentation: "What is on it."},
		{Name: "colour", OneOf: []string{"red", "blue"}, Default: "red", Documentation: "Red | or blue."},
	}},
	Sources: []sdk.AddressType{{Type: "Ship", Documentation: "A ship.", Resumable: true, Proxies: true, Address: sdk.Schema{Fields: []sdk.Field{
		{Name: "berth", Required: true, Kind: sdk.Int, Documentation: "Where it lies."},
		{Name: "flag", OneOf: []string{"nl", "de"}, Documentation: "Its flag."},
		{Name: "weight", Kind: sdk.Size, Default: "1TiB", Documentation: "Of all boxes."},
		{Name: "tag:", Prefix: true, Sensitive: true, Documentation: "A tag."}}}}},
	Sinks: []sdk.AddressType{{Type: "Quay", Documentation: "A quay.", Records: true, Provisions: true, NonFinite: true, Copies: true,
		Address: sdk.Schema{Open: true}}},
}

func TestMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := Markdown(&b, crane); err != nil {
		t.Fatal(err)
	}
	golden(t, "crane.md", b.Bytes())
}

func TestJSON(t *testing.T) {
	golden(t, "crane.json", encoded(t))
}

func encoded(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(JSON(crane)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it was (go test -update):\n%s", name, got)
	}
}

// The schema accepts and refuses what a plugin with the SDK does.
func TestSchemaJudges(t *testing.T) {
	const url = "urn:towpath:plugin:crane:1.2.3"
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded(t)))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(url, document); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		of, value string
		good      bool
	}{
		{"", `{"yard":"a","token":"x"}`, true},
		{"", `{"yard":"a","token":"x","night":false,"arms":3,"pause":"2h","load":"64 KiB","home":"https://a.example","names":["b"],"labels":{"c":"d"},"colour":"blue"}`, true},
		{"", `{"token":"x"}`, false},
		{"", `{"yard":"","token":"x"}`, false},
		{"", `{"yard":"a","token":"x","night":"false"}`, false},
		{"", `{"yard":"a","token":"x","arms":1.5}`, false},
		{"", `{"yard":"a","token":"x","pause":"3 weeks"}`, false},
		{"", `{"yard":"a","token":"x","home":"a/b"}`, false},
		{"", `{"yard":"a","token":"x","colour":"green"}`, false},
		{"", `{"yard":"a","token":"x","yrad":"b"}`, false},
		{"#/$defs/source.Ship", `{"type":"Ship","properties":{"berth":"7"}}`, true},
		{"#/$defs/source.Ship", `{"type":"Ship","properties":{"berth":"7","flag":"","weight":"","tag:a":"b"}}`, true},
		{"#/$defs/source.Ship", `{"type":"Ship"}`, false},
		{"#/$defs/source.Ship", `{"type":"Boat","properties":{"berth":"7"}}`, false},
		{"#/$defs/source.Ship", `{"type":"Ship","properties":{"berth":7}}`, false},
		{"#/$defs/source.Ship", `{"type":"Ship","properties":{"berth":"seven"}}`, false},
		{"#/$defs/source.Ship", `{"type":"Ship","properties":{"berth":"7","flag":"xx"}}`, false},
		{"#/$defs/source.Ship", `{"type":"Ship","properties":{"berth":"7","mast":"1"}}`, false},
		{"#/$defs/sink.Quay", `{"type":"Quay","endpoint":"https://a.example/","properties":{"any":"thing"}}`, true},
	} {
		schema, err := compiler.Compile(url + c.of)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(c.value)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != c.good {
			t.Errorf("%s: %s: %v", c.of, c.value, err)
		}
	}
}

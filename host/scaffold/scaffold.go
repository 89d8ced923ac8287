// Package scaffold writes a new plugin: a Go module that compiles, has tests of its own, and passes `towpath plugins verify`. Its author
// replaces what it reads and writes, and keeps the rest.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

// Options say what the plugin is.
type Options struct {
	Dir    string // to write to; it must not exist, or be empty
	Name   string // of the plugin: lower-case letters, digits, '-'
	Module string // path of the Go module. "": example.com/towpath-plugin-NAME
	Source bool   // it reads
	Sink   bool   // it writes
	// Records makes parts carry records, not bytes.
	Records bool
	// SDK is a checkout of Towpath to build against. "": the published version.
	SDK string
	// Version of the published SDK, as "0.1.0".
	Version string
}

//go:embed template
var templates embed.FS

// SDKModule is where the SDK is published.
const SDKModule = "github.com/towpath-dataplane/towpath"

var validName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Write writes the module, and returns the names of its files.
func Write(o Options) ([]string, error) {
	if !validName.MatchString(o.Name) {
		return nil, fmt.Errorf("%q is not a name for a plugin: lower-case letters, digits, '-'", o.Name)
	}
	if !o.Source && !o.Sink {
		return nil, errors.New("a plugin reads, or writes, or both")
	}
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("the folder %s is not empty", o.Dir)
	}
	if o.Module == "" {
		o.Module = "example.com/towpath-plugin-" + o.Name
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	p := plugin{Options: o, Type: typeName(o.Name)}
	if err := p.checkout(); err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if f.when != nil && !f.when(o) {
			continue
		}
		if err := p.write(f.name, f.template); err != nil {
			return nil, err
		}
		names = append(names, f.name)
	}
	return names, nil
}

// files are what is written, and when.
var files = []struct {
	name, template string
	when           func(Options) bool
}{
	{"go.mod", "go.mod.tmpl", nil},
	{"go.sum", "", func(o Options) bool { return o.SDK != "" }},
	{"main.go", "main.go.tmpl", nil},
	{"plugin.go", "plugin.go.tmpl", nil},
	{"source.go", "source.go.tmpl", func(o Options) bool { return o.Source }},
	{"sink.go", "sink.go.tmpl", func(o Options) bool { return o.Sink }},
	{"records.go", "records.go.tmpl", func(o Options) bool { return o.Records }},
	{"plugin_test.go", "plugin_test.go.tmpl", nil},
	{"verify.hcl", "verify.hcl.tmpl", nil},
	{"Makefile", "Makefile.tmpl", nil},
	{"README.md", "README.md.tmpl", nil},
	{".gitignore", "gitignore.tmpl", nil},
}

// plugin is what the templates know.
type plugin struct {
	Options
	Type      string // of its data addresses
	Path      string // of the checkout, absolute
	GoVersion string
	Requires  []string // modules that the checkout requires, with their versions
	sums      []byte
}

// typeName turns a name like acme-tape into AcmeTape.
func typeName(name string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(name, "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

var requirement = regexp.MustCompile(`^\s+(\S+ v\S+)`)

// checkout reads what a module needs that builds against a checkout, so that nothing has to be looked up.
func (p *plugin) checkout() error {
	p.GoVersion = "1.26.0"
	if p.SDK == "" {
		return nil
	}
	var err error
	if p.Path, err = filepath.Abs(p.SDK); err != nil {
		return err
	}
	module, err := os.ReadFile(filepath.Join(p.Path, "go.mod"))
	if err != nil || !bytes.HasPrefix(module, []byte("module "+SDKModule+"\n")) {
		return fmt.Errorf("%s is no checkout of %s", p.SDK, SDKModule)
	}
	for line := range strings.Lines(string(module)) {
		if v, ok := strings.CutPrefix(line, "go "); ok {
			p.GoVersion = strings.TrimSpace(v)
		}
		if m := requirement.FindStringSubmatch(line); m != nil {
			p.Requires = append(p.Requires, m[1])
		}
	}
	p.sums, err = os.ReadFile(filepath.Join(p.Path, "go.sum"))
	return err
}

func (p plugin) write(name, from string) error {
	text := p.sums
	if from != "" {
		t, err := template.New(from).Delims("«", "»").ParseFS(templates, "template/"+from)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, p); err != nil {
			return err
		}
		text = b.Bytes()
	}
	if filepath.Ext(name) == ".go" {
		formatted, err := format.Source(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		text = formatted
	}
	return os.WriteFile(filepath.Join(p.Dir, name), text, 0o644)
}

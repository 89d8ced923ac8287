package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/towpath-dataplane/towpath/sdk"
)

// sizes are those that sized addresses are asked for: what buffers, blocks and frames trip over.
var sizes = []int64{0, 1, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 3}

// manyParts is how many parts the address of many names.
const manyParts = 3000

// Spec says what a plugin's author gives the suite: how to configure the plugin, and addresses to read and to write. Its expressions
// may use dir (a folder of the suite's), flow (an identifier, another for each flow), size (in a sized address), parts (their number in
// the address of many), part (in a file that is laid for each), var.NAME, and the functions join, range, jsonencode,
// repeat, base64encode.
type Spec struct {
	Sources []*Source
	Sinks   []*Sink

	environment   *hcl.Attribute // added to the plugin's; nil: nothing
	configuration hcl.Attributes
	files         []hcl.Attributes
	vars          map[string]string
	dir           string // set by lay
}

// Source is a source type and addresses of it.
type Source struct {
	Type    string
	address *template
	sized   *template // exactly one part, of size bytes
	many    *template // exactly parts parts
	large   *template // one or more parts with 48 MiB or more, for what happens while data flows
	missing *template // nothing is there
}

// Sink is a sink type and addresses of it.
type Sink struct {
	Type     string
	address  *template
	missing  *template // cannot be written to
	readBack *template // of a source: what was written to address
	records  bool      // takes parts with records besides those with bytes
}

// template is a data address that is not known before it is used.
type template struct {
	spec       *Spec
	typ        string
	attributes hcl.Attributes // later ones win
	base       *template
}

func (s *Spec) source(typ string) *Source {
	if i := slices.IndexFunc(s.Sources, func(x *Source) bool { return x.Type == typ }); i >= 0 {
		return s.Sources[i]
	}
	return nil
}

func (s *Spec) sink(typ string) *Sink {
	if i := slices.IndexFunc(s.Sinks, func(x *Sink) bool { return x.Type == typ }); i >= 0 {
		return s.Sinks[i]
	}
	return nil
}

var (
	specSchema = &hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "environment"}},
		Blocks: []hcl.BlockHeaderSchema{{Type: "config"}, {Type: "file"}, {Type: "source", LabelNames: []string{"type"}},
			{Type: "sink", LabelNames: []string{"type"}}}}
	sourceSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "sized"}, {Type: "many"}, {Type: "large"}, {Type: "missing"}}}
	sinkSchema   = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "missing"}, {Type: "records"},
		{Type: "read_back", LabelNames: []string{"type"}}}}
)

// Load reads a Spec from a file, HCL or, if its name ends with .json, HCL's JSON. vars are the values of var.NAME. Without a path the
// Spec is empty.
func Load(path string, vars map[string]string) (*Spec, error) {
	if path == "" {
		return &Spec{vars: vars}, nil
	}
	body, err := parseBody(path)
	if err != nil {
		return nil, err
	}
	s := &Spec{vars: vars}
	if err := s.decode(body); err != nil {
		return nil, err
	}
	return s, s.check()
}

func parseBody(path string) (hcl.Body, error) {
	parser := hclparse.NewParser()
	parse := parser.ParseHCLFile
	if strings.HasSuffix(path, ".json") {
		parse = parser.ParseJSONFile
	}
	file, diags := parse(path)
	if diags.HasErrors() {
		return nil, diags
	}
	return file.Body, nil
}

func (s *Spec) decode(body hcl.Body) error {
	content, diags := body.Content(specSchema)
	if diags.HasErrors() {
		return diags
	}
	s.environment = content.Attributes["environment"]
	for _, b := range content.Blocks {
		if err := s.block(b); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) block(b *hcl.Block) (err error) {
	var diags hcl.Diagnostics
	switch b.Type {
	case "config":
		s.configuration, diags = b.Body.JustAttributes()
	case "file":
		var a hcl.Attributes
		if a, diags = b.Body.JustAttributes(); !diags.HasErrors() {
			s.files = append(s.files, a)
		}
	case "source":
		if s.source(b.Labels[0]) != nil {
			return fmt.Errorf("%s: there is a source %q already", b.DefRange, b.Labels[0])
		}
		return s.addSource(b)
	case "sink":
		if s.sink(b.Labels[0]) != nil {
			return fmt.Errorf("%s: there is a sink %q already", b.DefRange, b.Labels[0])
		}
		return s.addSink(b)
	}
	if diags.HasErrors() {
		return diags
	}
	return nil
}

func (s *Spec) addSource(b *hcl.Block) error {
	content, rest, diags := b.Body.PartialContent(sourceSchema)
	if diags = append(diags, strangers(b.Body, sourceSchema)...); diags.HasErrors() {
		return diags
	}
	out := &Source{Type: b.Labels[0]}
	var err error
	if out.address, err = s.template(out.Type, rest, nil); err != nil {
		return err
	}
	for _, inner := range content.Blocks {
		into := map[string]**template{"sized": &out.sized, "many": &out.many, "large": &out.large, "missing": &out.missing}[inner.Type]
		if *into, err = s.template(out.Type, inner.Body, out.address); err != nil {
			return err
		}
	}
	s.Sources = append(s.Sources, out)
	return nil
}

func (s *Spec) addSink(b *hcl.Block) error {
	content, rest, diags := b.Body.PartialContent(sinkSchema)
	if diags = append(diags, strangers(b.Body, sinkSchema)...); diags.HasErrors() {
		return diags
	}
	out := &Sink{Type: b.Labels[0]}
	var err error
	if out.address, err = s.template(out.Type, rest, nil); err != nil {
		return err
	}
	for _, inner := range content.Blocks {
		switch inner.Type {
		case "missing":
			out.missing, err = s.template(out.Type, inner.Body, out.address)
		case "read_back":
			out.readBack, err = s.template(inner.Labels[0], inner.Body, nil)
		case "records":
			out.records = true
		}
		if err != nil {
			return err
		}
	}
	s.Sinks = append(s.Sinks, out)
	return nil
}

// strangers says which blocks in a body are not in its schema. PartialContent leaves them to whoever reads the rest, and JustAttributes
// complains of those that are in the schema too.
func strangers(body hcl.Body, schema *hcl.BodySchema) (diags hcl.Diagnostics) {
	native, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil // in JSON a block that is not in the schema is an attribute
	}
	for _, b := range native.Blocks {
		if !slices.ContainsFunc(schema.Blocks, func(known hcl.BlockHeaderSchema) bool { return known.Type == b.Type }) {
			diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Unknown block", Subject: b.TypeRange.Ptr(),
				Detail: fmt.Sprintf("There is no block %q here.", b.Type)})
		}
	}
	return diags
}

func (s *Spec) template(typ string, body hcl.Body, base *template) (*template, error) {
	attributes, diags := body.JustAttributes()
	if _, native := body.(*hclsyntax.Body); diags.HasErrors() && !(native && base == nil) {
		return nil, diags
	}
	return &template{spec: s, typ: typ, attributes: attributes, base: base}, nil
}

// check evaluates everything once, so that mistakes are found before a plugin is launched.
func (s *Spec) check() error {
	for _, a := range s.templates() {
		if _, err := a.fill(sample()); err != nil {
			return err
		}
	}
	for _, f := range s.files {
		if _, err := s.file(f, sample()); err != nil {
			return err
		}
	}
	if _, err := s.variables(); err != nil {
		return err
	}
	_, err := s.values(s.configuration, nil)
	return err
}

// variables are added to the plugin's environment.
func (s *Spec) variables() (map[string]string, error) {
	if s.environment == nil {
		return nil, nil
	}
	return s.stringMap(s.environment, nil)
}

func (s *Spec) templates() (all []*template) {
	for _, x := range s.Sources {
		all = append(all, x.address, x.sized, x.many, x.large, x.missing)
	}
	for _, x := range s.Sinks {
		all = append(all, x.address, x.missing, x.readBack)
	}
	return slices.DeleteFunc(all, func(t *template) bool { return t == nil })
}

// laid is a file to lay.
type laid struct {
	path    string
	content []byte
}

func (s *Spec) file(attributes hcl.Attributes, v values) (laid, error) {
	var f laid
	path, ok := attributes["path"]
	if !ok {
		return f, errors.New("a file block has no path")
	}
	var err error
	if f.path, err = s.text(path, v); err != nil {
		return f, err
	}
	if !filepath.IsLocal(f.path) {
		return f, fmt.Errorf("%s: %q does not lie in the folder dir", path.Range, f.path)
	}
	for name, a := range attributes {
		var text string
		if text, err = s.text(a, v); err != nil {
			return f, err
		}
		switch name {
		case "path":
		case "content":
			f.content = []byte(text)
		case "size":
			n, err := sdk.ParseSize(text)
			if err != nil || n > 1<<30 {
				return f, fmt.Errorf("%s: %q is no size of at most 1GiB", a.Range, text)
			}
			f.content = make([]byte, n)
			content{seed: uint64(len(f.path)) + uint64(n)}.fill(f.content, 0)
		default:
			return f, fmt.Errorf("%s: a file has no %q, but path, content and size", a.Range, name)
		}
	}
	return f, nil
}

// lay makes the folder dir, and the files in it.
func (s *Spec) lay(dir string) error {
	s.dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, attributes := range s.files {
		for _, v := range repeat(attributes) {
			f, err := s.file(attributes, v)
			if err != nil {
				return err
			}
			path := filepath.Join(dir, f.path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return fmt.Errorf("lay a file: %w", err)
			}
			if err := os.WriteFile(path, f.content, 0o600); err != nil {
				return fmt.Errorf("lay a file: %w", err)
			}
		}
	}
	return nil
}

// repeat returns the values that a file is laid for: each size if it uses size, each part if it uses part.
func repeat(attributes hcl.Attributes) (all []values) {
	switch {
	case uses(attributes, "size"):
		for _, n := range sizes {
			all = append(all, values{"size": cty.NumberIntVal(n)})
		}
	case uses(attributes, "part"):
		for i := range manyParts {
			all = append(all, values{"part": cty.NumberIntVal(int64(i))})
		}
	default:
		all = []values{{}}
	}
	return all
}

// SetConfig takes the configuration from a JSON file, in place of the block config.
func (s *Spec) SetConfig(path string) error {
	body, err := parseJSONBody(path)
	if err != nil {
		return err
	}
	attributes, diags := body.JustAttributes()
	if diags.HasErrors() {
		return diags
	}
	s.configuration = attributes
	_, err = s.values(attributes, nil)
	return err
}

func parseJSONBody(path string) (hcl.Body, error) {
	file, diags := hclparse.NewParser().ParseJSONFile(path)
	if diags.HasErrors() {
		return nil, diags
	}
	return file.Body, nil
}

// address is what is in the JSON file of an address.
var addressSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "type", Required: true}, {Name: "endpoint"}, {Name: "properties"}}}

// readAddress reads an address as an API has it: {"type": ..., "endpoint": ..., "properties": {...}}.
func (s *Spec) readAddress(path string) (*template, error) {
	body, err := parseJSONBody(path)
	if err != nil {
		return nil, err
	}
	content, diags := body.Content(addressSchema)
	if diags.HasErrors() {
		return nil, diags
	}
	t := &template{spec: s, attributes: content.Attributes}
	if t.typ, err = s.text(content.Attributes["type"], nil); err != nil {
		return nil, err
	}
	delete(content.Attributes, "type")
	_, err = t.fill(sample())
	return t, err
}

// SetSource takes the address to read from a JSON file, in place of that of the block source of its type.
func (s *Spec) SetSource(path string) error {
	t, err := s.readAddress(path)
	if err != nil {
		return err
	}
	x := s.source(t.typ)
	if x == nil {
		x = &Source{Type: t.typ}
		s.Sources = append(s.Sources, x)
	}
	x.address = t
	return nil
}

// SetSink takes the address to write to from a JSON file. With readBack it is also the address to read what was written.
func (s *Spec) SetSink(path string, readBack bool) error {
	t, err := s.readAddress(path)
	if err != nil {
		return err
	}
	x := s.sink(t.typ)
	if x == nil {
		x = &Sink{Type: t.typ}
		s.Sinks = append(s.Sinks, x)
	}
	x.address = t
	if readBack {
		x.readBack = t
	}
	return nil
}

// config returns the configuration of the plugin as a host hands it over: what is given, and the defaults of the rest.
func (s *suite) config() ([]byte, error) {
	given, err := s.spec.values(s.spec.configuration, nil)
	if err != nil {
		return nil, err
	}
	schema := schemaFromProto(s.description.GetConfig())
	out := map[string]any{}
	for name, value := range given {
		if f, ok := schema.Lookup(name); ok {
			if value, err = convertTo(f, value); err != nil {
				return nil, fmt.Errorf("config: %s: %w", name, err)
			}
		}
		encoded, err := ctyjson.Marshal(value, value.Type())
		if err != nil {
			return nil, fmt.Errorf("config: %s: %w", name, err)
		}
		out[name] = json.RawMessage(encoded)
	}
	for _, f := range schema.Fields {
		if _, set := out[f.Name]; !set && f.Default != "" && !f.Prefix {
			out[f.Name] = defaultOf(f)
		}
	}
	return json.Marshal(out)
}

func convertTo(f sdk.Field, value cty.Value) (cty.Value, error) {
	switch f.Kind {
	case sdk.Bool:
		return convert.Convert(value, cty.Bool)
	case sdk.Int:
		return convert.Convert(value, cty.Number)
	case sdk.StringList:
		return convert.Convert(value, cty.List(cty.String))
	case sdk.StringMap:
		return convert.Convert(value, cty.Map(cty.String))
	}
	return convert.Convert(value, cty.String)
}

// defaultOf is a field's default as a member of the configuration.
func defaultOf(f sdk.Field) any {
	switch f.Kind {
	case sdk.Bool:
		b, _ := strconv.ParseBool(f.Default)
		return b
	case sdk.Int:
		return json.Number(f.Default)
	}
	return f.Default
}

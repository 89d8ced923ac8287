// Package schemadoc turns what a plugin declares about its configuration and its data addresses into documentation for people, and
// into JSON Schema for editors and for whoever checks addresses.
package schemadoc

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Markdown writes a page about a plugin.
func Markdown(w io.Writer, d sdk.Description) error {
	p := &page{w: w}
	p.printf("# %s %s\n\n", d.Name, d.Version)
	p.paragraph(d.Documentation)
	p.printf("## Configuration\n\n")
	p.printf("```hcl\nplugin %q {\n  config {\n", d.Name)
	for _, f := range d.Config.Fields {
		if f.Required {
			p.printf("    %s = %s\n", f.Name, example(f))
		}
	}
	p.printf("  }\n}\n```\n\n")
	p.fields(d.Config, true)
	for _, t := range d.Sources {
		p.addressType("Source", t, "goes on inside a part after a cut")
	}
	for _, t := range d.Sinks {
		p.addressType("Sink", t, "goes on inside a part after a cut, where the other side can")
	}
	return p.err
}

// page writes until something fails.
type page struct {
	w   io.Writer
	err error
}

func (p *page) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *page) paragraph(text string) {
	if text != "" {
		p.printf("%s\n\n", text)
	}
}

func (p *page) addressType(role string, t sdk.AddressType, resumable string) {
	p.printf("## %s `%s`\n\n", role, t.Type)
	p.paragraph(t.Documentation)
	for _, trait := range []struct {
		has  bool
		text string
	}{{t.Resumable, resumable}, {t.NonFinite, "has no end of its own"}, {t.Records, "carries records"},
		{t.Provisions, "hands out addresses of its own (`provision` of a profile)"}, {t.Copies, "is copied by its store where an operator allows it"},
		{t.Proxies, "hands requests of counterparties on, as far as an address's `proxy` properties let them through"}} {
		if trait.has {
			p.printf("- %s\n", trait.text)
		}
	}
	if t.Resumable || t.NonFinite || t.Records || t.Provisions || t.Copies || t.Proxies {
		p.printf("\n")
	}
	p.fields(t.Address, false)
}

// fields writes a table.
func (p *page) fields(s sdk.Schema, configuration bool) {
	what := "property"
	if configuration {
		what = "attribute"
	}
	if len(s.Fields) > 0 {
		p.printf("| %s | kind | | what it is |\n|---|---|---|---|\n", what)
	}
	for _, f := range s.Fields {
		p.printf("| `%s` | %s | %s | %s |\n", name(f), kind(f), cell(notes(f)), cell(f.Documentation))
	}
	switch {
	case s.Open && len(s.Fields) > 0:
		p.printf("\nAny other %s is accepted.\n", what)
	case s.Open:
		p.printf("Any %s is accepted.\n", what)
	case len(s.Fields) == 0:
		p.printf("There is no %s.\n", what)
	}
	p.printf("\n")
}

func name(f sdk.Field) string {
	if f.Prefix {
		return f.Name + "..."
	}
	return f.Name
}

func kind(f sdk.Field) string {
	if f.Kind == "" {
		return string(sdk.String)
	}
	return string(f.Kind)
}

func notes(f sdk.Field) string {
	var all []string
	if f.Required {
		all = append(all, "required")
	}
	if f.Sensitive {
		all = append(all, "secret")
	}
	if f.Default != "" {
		all = append(all, "default `"+f.Default+"`")
	}
	if len(f.OneOf) > 0 {
		all = append(all, "one of `"+strings.Join(f.OneOf, "`, `")+"`")
	}
	return strings.Join(all, "; ")
}

// cell makes text fit into a cell of a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

// example is a value in HCL.
func example(f sdk.Field) string {
	switch {
	case f.Sensitive:
		return fmt.Sprintf("secret(%q)", f.Name+".secret")
	case len(f.OneOf) > 0:
		return strconv.Quote(f.OneOf[0])
	}
	return map[sdk.Kind]string{sdk.Bool: "true", sdk.Int: "1", sdk.Duration: `"30s"`, sdk.Size: `"1MiB"`, sdk.URL: `"https://example.com/"`,
		sdk.StringList: `["..."]`, sdk.StringMap: `{ name = "..." }`, sdk.String: `"..."`, "": `"..."`}[f.Kind]
}

// Dialect is the version of JSON Schema that JSON speaks.
const Dialect = "https://json-schema.org/draft/2020-12/schema"

// object is a schema, or a part of one. encoding/json sorts its members.
type object = map[string]any

// JSON returns the JSON Schema of a plugin: of its configuration at the top, and under $defs of the address of each type, as the APIs of
// Towpath have it ({"type", "endpoint", "properties"}), by "config", "source.TYPE" and "sink.TYPE".
func JSON(d sdk.Description) object {
	defs := object{"config": configuration(d)}
	for _, t := range d.Sources {
		defs["source."+t.Type] = address("Source", t)
	}
	for _, t := range d.Sinks {
		defs["sink."+t.Type] = address("Sink", t)
	}
	return object{"$schema": Dialect, "$id": fmt.Sprintf("urn:towpath:plugin:%s:%s", d.Name, d.Version), "title": d.Name + " " + d.Version,
		"description": d.Documentation, "$defs": defs, "$ref": "#/$defs/config"}
}

func configuration(d sdk.Description) object {
	o := fieldsOf(d.Config, configValue)
	o["title"], o["description"] = "Configuration of "+d.Name, d.Documentation
	return o
}

func address(role string, t sdk.AddressType) object {
	return object{"title": role + " " + t.Type, "description": t.Documentation, "type": "object", "additionalProperties": false,
		"required": required(t.Address), "properties": object{
			"type": object{"const": t.Type}, "endpoint": object{"type": "string", "minLength": 1},
			"properties": fieldsOf(t.Address, addressValue)}}
}

// required says what an address has to have besides.
func required(s sdk.Schema) []string {
	for _, f := range s.Fields {
		if f.Required && !f.Prefix {
			return []string{"type", "properties"}
		}
	}
	return []string{"type"}
}

// fieldsOf returns the schema of an object with the fields of a schema.
func fieldsOf(s sdk.Schema, value func(sdk.Field) object) object {
	properties, patterns, needed := object{}, object{}, []string{}
	for _, f := range s.Fields {
		v := value(f)
		if f.Documentation != "" {
			v["description"] = f.Documentation
		}
		if f.Sensitive {
			v["writeOnly"] = true
		}
		if f.Prefix {
			patterns["^"+regexp.QuoteMeta(f.Name)] = v
			continue
		}
		properties[f.Name] = v
		if f.Required {
			needed = append(needed, f.Name)
		}
	}
	o := object{"type": "object", "properties": properties, "additionalProperties": s.Open}
	if len(patterns) > 0 {
		o["patternProperties"] = patterns
	}
	if len(needed) > 0 {
		o["required"] = needed
	}
	return o
}

// The notations of the kinds.
const (
	boolPattern     = `^(1|t|T|TRUE|true|True|0|f|F|FALSE|false|False)$`
	intPattern      = `^[+-]?[0-9]+$`
	durationPattern = `^[+-]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
	sizePattern     = `^[+]?[0-9]+( *(KiB|MiB|GiB|TiB))?$`
	urlPattern      = `^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]+`
)

// addressValue is the schema of a property, which is text of whatever kind.
func addressValue(f sdk.Field) object {
	v := object{"type": "string"}
	if p := map[sdk.Kind]string{sdk.Bool: boolPattern, sdk.Int: intPattern, sdk.Duration: durationPattern, sdk.Size: sizePattern,
		sdk.URL: urlPattern}[f.Kind]; p != "" {
		v["pattern"] = optional(p, f)
	}
	if f.Default != "" {
		v["default"] = f.Default
	}
	return limited(v, f)
}

// optional lets a property that is not required be empty.
func optional(pattern string, f sdk.Field) string {
	if f.Required {
		return pattern
	}
	return `^$|` + pattern
}

func limited(v object, f sdk.Field) object {
	if f.Required && v["type"] == "string" {
		v["minLength"] = 1
	}
	if len(f.OneOf) == 0 {
		return v
	}
	values := append([]string{}, f.OneOf...)
	if !f.Required {
		values = append(values, "")
	}
	v["enum"] = values
	return v
}

// configValue is the schema of an attribute of the configuration, as JSON has it.
func configValue(f sdk.Field) object {
	switch f.Kind {
	case sdk.Bool:
		v := object{"type": "boolean"}
		if b, err := strconv.ParseBool(f.Default); err == nil {
			v["default"] = b
		}
		return v
	case sdk.Int:
		v := object{"type": "integer"}
		if n, err := strconv.ParseInt(f.Default, 10, 64); err == nil {
			v["default"] = n
		}
		return v
	case sdk.StringList:
		return object{"type": "array", "items": object{"type": "string"}}
	case sdk.StringMap:
		return object{"type": "object", "additionalProperties": object{"type": "string"}}
	}
	v := addressValue(f)
	if len(f.OneOf) > 0 {
		v["enum"] = append([]string{}, f.OneOf...)
	}
	return v
}

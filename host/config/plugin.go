package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/towpath-dataplane/towpath/sdk"
)

// decodeConfig turns a plugin's config block into the JSON that its schema asks for, and says what is wrong with it.
func decodeConfig(b configBlock, schema sdk.Schema) ([]byte, hcl.Diagnostics) {
	d := pluginDecoder{schema: schema, hide: b.hasSecrets(schema)}
	out := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(b.values)) {
		if member, ok := d.member(name, b.values[name]); ok {
			out[name] = member
		}
	}
	for _, f := range schema.Fields {
		if _, set := b.values[f.Name]; !set && !f.Prefix {
			d.absent(f, b, out)
		}
	}
	encoded, err := json.Marshal(out)
	if err != nil {
		d.refuse(b.at, "It cannot be encoded as JSON.")
	}
	return encoded, d.diags
}

// hasSecrets reports whether the source of the config block can hold a secret.
func (b configBlock) hasSecrets(schema sdk.Schema) bool {
	for name := range b.values {
		if f, ok := schema.Lookup(name); ok && f.Sensitive {
			return true
		}
	}
	return false
}

// pluginDecoder decodes one config block.
type pluginDecoder struct {
	schema sdk.Schema
	hide   bool // the diagnostics must not show the source
	diags  hcl.Diagnostics
}

func (d *pluginDecoder) refuse(at hcl.Range, format string, args ...any) {
	diag := problem(at, "Unsuitable plugin configuration", format, args...)
	if d.hide {
		diag.Extra = hideSource
	}
	d.diags = append(d.diags, diag)
}

// member decodes an attribute. If it returns false, it has reported why.
func (d *pluginDecoder) member(name string, v value) (any, bool) {
	f, ok := d.schema.Lookup(name)
	if !ok && !d.schema.Open {
		d.refuse(v.name, "The plugin has no attribute %q.%s", name, didYouMean(name, fieldNames(d.schema)))
		return nil, false
	}
	f.Sensitive = f.Sensitive || v.sensitive
	member, err := decodeField(f, v.Value)
	if err != nil {
		d.refuse(v.at, "%s: %v.", name, err)
	}
	return member, err == nil
}

// absent deals with a field that is not set: it has a default, or is required, or stays away.
func (d *pluginDecoder) absent(f sdk.Field, b configBlock, out map[string]any) {
	switch {
	case f.Default != "":
		member, err := decodeDefault(f)
		if err != nil {
			d.refuse(b.at, "%s: the plugin's own default is wrong: %v. Set it here.", f.Name, err)
			return
		}
		out[f.Name] = member
	case f.Required:
		d.refuse(b.at, "%s: is required.%s", f.Name, sentence(f.Documentation))
	}
}

// sentence is a field's documentation behind a message.
func sentence(documentation string) string {
	if documentation == "" {
		return ""
	}
	return " " + documentation
}

// decodeField reads a value by the kind of its field. The error does not contain the value if the field is sensitive.
func decodeField(f sdk.Field, v cty.Value) (any, error) {
	switch f.Kind {
	case sdk.StringList:
		list, err := texts(v)
		return list, cmp.Or(err, checkElements(f, list))
	case sdk.StringMap:
		m, err := textMap(v)
		return m, cmp.Or(err, checkElements(f, slices.Sorted(maps.Values(m))))
	}
	s, err := text(v)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be of kind %s", kindOf(v), cmp.Or(f.Kind, sdk.String))
	}
	return decodeText(f, s)
}

func checkElements(f sdk.Field, elements []string) error {
	if err := checkRequired(f, len(elements)); err != nil {
		return err
	}
	for _, e := range elements {
		if err := f.CheckValue(e); err != nil {
			return err
		}
	}
	return nil
}

func checkRequired(f sdk.Field, length int) error {
	if f.Required && length == 0 {
		return errors.New("it is required and must not be empty")
	}
	return nil
}

// decodeText reads a field of one value from its notation.
func decodeText(f sdk.Field, s string) (any, error) {
	if err := checkRequired(f, len(s)); err != nil {
		return nil, err
	}
	if err := f.CheckValue(s); err != nil {
		return nil, err
	}
	switch f.Kind {
	case sdk.Bool:
		return strconv.ParseBool(s)
	case sdk.Int:
		return strconv.ParseInt(s, 10, 64)
	default:
		return s, nil
	}
}

// decodeDefault reads a field's default: in the notation of its kind, JSON for lists and maps.
func decodeDefault(f sdk.Field) (any, error) {
	switch f.Kind {
	case sdk.StringList:
		return decodeJSON[[]string](f)
	case sdk.StringMap:
		return decodeJSON[map[string]string](f)
	default:
		return decodeText(f, f.Default)
	}
}

func decodeJSON[T any](f sdk.Field) (any, error) {
	var v T
	if err := json.Unmarshal([]byte(f.Default), &v); err != nil {
		return nil, fmt.Errorf("%q is not a %s in JSON", f.Default, f.Kind)
	}
	return v, nil
}

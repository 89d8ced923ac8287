package verify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/towpath-dataplane/towpath/sdk"
)

// values that an expression may use, besides dir and var.
type values map[string]cty.Value

func sample() values {
	return values{"flow": cty.StringVal("flow"), "size": cty.NumberIntVal(1), "parts": cty.NumberIntVal(1), "part": cty.NumberIntVal(0)}
}

func (s *Spec) context(v values) *hcl.EvalContext {
	vars := map[string]cty.Value{}
	for name, value := range s.vars {
		vars[name] = cty.StringVal(value)
	}
	all := map[string]cty.Value{"dir": cty.StringVal(s.dir), "var": cty.ObjectVal(vars)}
	maps.Copy(all, v)
	return &hcl.EvalContext{Variables: all, Functions: functions}
}

// functions are those that expressions may call.
var functions = map[string]function.Function{
	"join": stdlib.JoinFunc, "range": stdlib.RangeFunc, "jsonencode": stdlib.JSONEncodeFunc,
	"repeat": function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: "times", Type: cty.Number}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			n, _ := args[1].AsBigFloat().Int64()
			if text := args[0].AsString(); n >= 0 && n*int64(len(text)) <= 64<<20 {
				return cty.StringVal(strings.Repeat(text, int(n))), nil
			}
			return cty.NilVal, errors.New("it would have more than 64 MiB")
		}}),
	"base64encode": function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(base64.StdEncoding.EncodeToString([]byte(args[0].AsString()))), nil
		}}),
}

func (s *Spec) value(a *hcl.Attribute, v values) (cty.Value, error) {
	value, diags := a.Expr.Value(s.context(v))
	if diags.HasErrors() {
		return value, diags
	}
	return value, nil
}

func (s *Spec) values(attributes hcl.Attributes, v values) (map[string]cty.Value, error) {
	out := map[string]cty.Value{}
	for name, a := range attributes {
		value, err := s.value(a, v)
		if err != nil {
			return nil, err
		}
		out[name] = value
	}
	return out, nil
}

// text evaluates an attribute to a string, as a data address carries every kind.
func (s *Spec) text(a *hcl.Attribute, v values) (string, error) {
	value, err := s.value(a, v)
	if err != nil {
		return "", err
	}
	text, err := convert.Convert(value, cty.String)
	if err != nil || text.IsNull() || !text.IsKnown() {
		return "", fmt.Errorf("%s: %s has to be text, a number, true or false", a.Range, a.Name)
	}
	return text.AsString(), nil
}

func (s *Spec) stringMap(a *hcl.Attribute, v values) (map[string]string, error) {
	value, err := s.value(a, v)
	if err != nil {
		return nil, err
	}
	converted, err := convert.Convert(value, cty.Map(cty.String))
	if err != nil || converted.IsNull() {
		return nil, fmt.Errorf("%s: %s has to be a map of strings", a.Range, a.Name)
	}
	out := map[string]string{}
	for name, text := range converted.AsValueMap() {
		if text.IsNull() {
			return nil, fmt.Errorf("%s: %s has to be a map of strings", a.Range, a.Name)
		}
		out[name] = text.AsString()
	}
	return out, nil
}

// fill returns the address for some values.
func (t *template) fill(v values) (sdk.DataAddress, error) {
	a := sdk.DataAddress{Type: t.typ, Properties: map[string]string{}}
	if t.base != nil {
		var err error
		if a, err = t.base.fill(v); err != nil {
			return a, err
		}
	}
	for name, attribute := range t.attributes {
		if name == "properties" {
			more, err := t.spec.stringMap(attribute, v)
			if err != nil {
				return a, err
			}
			maps.Copy(a.Properties, more)
			continue
		}
		text, err := t.spec.text(attribute, v)
		if err != nil {
			return a, err
		}
		if name == "endpoint" {
			a.Endpoint = text
		} else {
			a.Properties[name] = text
		}
	}
	return a, nil
}

// uses says whether the address depends on a value.
func uses(attributes hcl.Attributes, name string) bool {
	for _, a := range attributes {
		for _, t := range a.Expr.Variables() {
			if t.RootName() == name {
				return true
			}
		}
	}
	return false
}

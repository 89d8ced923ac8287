package config

import (
	"errors"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// decoder turns blocks into values and gathers what is wrong with them.
type decoder struct {
	contexts map[string]*hcl.EvalContext // by file
	diags    hcl.Diagnostics
}

func newDecoder(names []string) *decoder {
	d := &decoder{contexts: map[string]*hcl.EvalContext{}}
	for _, name := range names {
		d.contexts[name] = &hcl.EvalContext{Functions: functions(filepath.Dir(name))}
	}
	return d
}

func (d *decoder) report(at hcl.Range, summary, format string, args ...any) {
	d.diags = append(d.diags, problem(at, summary, format, args...))
}

// value is what an attribute is set to.
type value struct {
	cty.Value        // wholly known, without marks, not null; its elements may be null
	sensitive   bool // it, or something in it, comes from secret()
	name        hcl.Range
	at          hcl.Range
	sensitiveIn map[string]bool      // the elements of a map that come from secret()
	atIn        map[string]hcl.Range // where the elements of a map stand, if they are written out
}

// element returns an element of a map.
func (v value) element(name string) value {
	at, ok := v.atIn[name]
	if !ok {
		at = v.at
	}
	return value{Value: v.AsValueMap()[name], sensitive: v.sensitiveIn[name], name: at, at: at}
}

// eval evaluates an attribute. If it returns false, it has reported why.
func (d *decoder) eval(attr *hcl.Attribute) (value, bool) {
	marked, diags := attr.Expr.Value(d.contexts[attr.Range.Filename])
	if diags.HasErrors() {
		d.diags = append(d.diags, withhold(attr.Expr, diags)...)
		return value{}, false
	}
	plain, marks := marked.UnmarkDeep()
	if !plain.IsWhollyKnown() {
		// All HCL cannot know here is what it could not parse, and that is reported.
		if len(d.diags) == 0 {
			d.report(attr.Expr.Range(), "Unsuitable value", "%s: it cannot be evaluated.", attr.Name)
		}
		return value{}, false
	}
	if plain.IsNull() {
		d.report(attr.Expr.Range(), "Unsuitable value", "%s: null is not a value. Leave it out if it is not to be set.", attr.Name)
		return value{}, false
	}
	if kindOf(plain) == "a map" && marked.IsMarked() {
		d.report(attr.Expr.Range(), "Secret not allowed here", "%s: names must not come from secret().", attr.Name)
		return value{}, false
	}
	return value{
		Value: plain, sensitive: len(marks) > 0, name: attr.NameRange, at: attr.Expr.Range(),
		sensitiveIn: sensitiveElements(marked), atIn: elementRanges(attr.Expr),
	}, true
}

func sensitiveElements(v cty.Value) map[string]bool {
	out := map[string]bool{}
	if !v.IsMarked() && kindOf(v) == "a map" {
		for name, element := range v.AsValueMap() {
			out[name] = element.ContainsMarked()
		}
	}
	return out
}

func elementRanges(expr hcl.Expression) map[string]hcl.Range {
	object, ok := expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		return nil
	}
	out := map[string]hcl.Range{}
	for _, item := range object.Items {
		out[literalKey(item.KeyExpr)] = item.ValueExpr.Range()
	}
	return out
}

// withhold replaces what HCL says about an expression that calls secret(), since it may quote values. What it says about function
// calls does not: see functions.
func withhold(expr hcl.Expression, diags hcl.Diagnostics) hcl.Diagnostics {
	if !callsSecret(expr) {
		return diags
	}
	for _, diag := range diags {
		_, call := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](diag)
		_, unknown := hcl.DiagnosticExtra[hclsyntax.FunctionCallUnknownDiagExtra](diag)
		if !call && !unknown {
			diag.Detail = "It cannot be evaluated. Details are withheld because it calls secret()."
		}
	}
	return diags
}

func callsSecret(expr hcl.Expression) bool {
	node, ok := expr.(hclsyntax.Node)
	found := !ok
	if ok {
		_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
			call, ok := n.(*hclsyntax.FunctionCallExpr)
			found = found || ok && call.Name == "secret"
			return nil
		})
	}
	return found
}

// fields are the attributes and blocks that are set in one block.
type fields struct {
	*decoder
	header hcl.Range
	valid  bool // nothing was wrong with what stands in the block
	attrs  hcl.Attributes
	blocks hcl.Blocks
}

// open reads a block by its schema.
func (d *decoder) open(b *hcl.Block, schema *hcl.BodySchema) fields {
	content, diags := b.Body.Content(schema)
	d.diags = append(d.diags, diags...)
	return fields{decoder: d, header: b.DefRange, valid: len(diags) == 0, attrs: content.Attributes, blocks: content.Blocks}
}

// exposed is the error about a value that has a secret in it, though it did not come from secret(): its source is not shown.
type exposed struct{ error }

// set stores an attribute, if there is one. It reports whether it did; if there is one that parse refuses, it has reported that.
func set[T any](f fields, name string, into *T, parse func(cty.Value) (T, error)) bool {
	attr, ok := f.attrs[name]
	if !ok {
		return false
	}
	v, ok := f.eval(attr)
	if !ok {
		return false
	}
	if v.sensitive {
		f.report(v.at, "Secret not allowed here",
			"%s: secret() is for attributes that are secrets, a plugin's config, and a dataset's source and sink.", name)
		return false
	}
	parsed, err := parse(v.Value)
	if err != nil {
		f.report(v.at, "Unsuitable value", "%s: %v.", name, err)
		if errors.As(err, new(exposed)) {
			f.hideFrom(len(f.diags) - 1)
		}
		return false
	}
	*into = parsed
	return true
}

// at is where an attribute's value stands; the block's header if it is not set.
func (f fields) at(name string) hcl.Range {
	if attr, ok := f.attrs[name]; ok {
		return attr.Expr.Range()
	}
	return f.header
}

// whereSet is where an attribute's value stands; zero if it is not set.
func (f fields) whereSet(name string) hcl.Range {
	if !f.has(name) {
		return hcl.Range{}
	}
	return f.at(name)
}

// elementAt is where an element of a map stands; the attribute's value if it is not written out.
func (f fields) elementAt(name, element string) hcl.Range {
	if at, ok := elementRanges(f.attrs[name].Expr)[element]; ok {
		return at
	}
	return f.at(name)
}

// has reports whether an attribute is set, to a suitable value or not.
func (f fields) has(name string) bool { return f.attrs[name] != nil }

// together reports attributes that need each other: the first needs all of the others, and none of them, nor the optional ones, has
// any effect without the first.
func (f fields) together(first string, others []string, optional ...string) {
	if f.has(first) {
		for _, name := range others {
			if !f.has(name) {
				f.report(f.attrs[first].NameRange, "Missing counterpart", "%s needs %s as well.", first, name)
			}
		}
		return
	}
	for _, name := range slices.Concat(others, optional) {
		if f.has(name) {
			f.report(f.attrs[name].NameRange, "Missing counterpart", "%s has no effect without %s.", name, first)
			if name == "client_secret" {
				f.hideFrom(len(f.diags) - 1)
			}
		}
	}
}

// single returns the only block of a type, nil if there is none. It reports others.
func (f fields) single(typ string) *hcl.Block {
	var first *hcl.Block
	for _, b := range f.blocks {
		switch {
		case b.Type != typ:
		case first == nil:
			first = b
		default:
			f.report(b.DefRange, "Duplicate block", "There is already %s block at %s.", article(typ), place(first.DefRange))
		}
	}
	return first
}

// path reads a path, which is relative to the file that the block stands in, and makes it absolute.
func (f fields) path(v cty.Value) (string, error) {
	text, err := nonEmpty(v)
	if err != nil {
		return "", err
	}
	return filepath.Abs(resolve(filepath.Dir(f.header.Filename), text))
}

package access

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Rule decides about the requests that its condition is true of.
type Rule struct {
	Name   string
	Effect Effect

	when hcl.Expression
}

// NewRule makes a rule of a condition, or says what can be known to be wrong with it before there is a request: variables, attributes and
// functions that do not exist, a value that is not true or false.
func NewRule(name string, effect Effect, when hcl.Expression) (Rule, hcl.Diagnostics) {
	c := checker{scope: &hcl.EvalContext{Variables: anyRequest(), Functions: functions}}
	c.report(unknownVariables(when)...)
	c.report(misspelt(when)...)
	v, diags := when.Value(c.scope)
	c.report(diags...)
	if node, ok := when.(hclsyntax.Node); ok {
		hclsyntax.Walk(node, &c)
	}
	if !c.found.HasErrors() && (v.IsNull() || v.Type() != cty.Bool && v.Type() != cty.DynamicPseudoType) {
		what := "null"
		if !v.IsNull() {
			what = v.Type().FriendlyName()
		}
		c.report(&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Unsuitable value", Subject: when.Range().Ptr(),
			Detail: fmt.Sprintf("when: it has to be true or false, and is %s.", what)})
	}
	for _, d := range c.found {
		if d.Subject == nil {
			d.Subject = when.Range().Ptr()
		}
	}
	return Rule{Name: name, Effect: effect, when: when}, c.found
}

// checker evaluates what is on either side of && and ||, too: as a whole an expression does not say what is wrong with the second if the
// first could decide.
type checker struct {
	scope *hcl.EvalContext
	found hcl.Diagnostics
	local int // nodes around the one that is looked at which have variables of their own, or expect errors
}

// Enter is called before what is inside of a node.
func (c *checker) Enter(n hclsyntax.Node) hcl.Diagnostics {
	switch n := n.(type) {
	case *hclsyntax.BinaryOpExpr:
		if c.local == 0 {
			for _, side := range []hclsyntax.Expression{n.LHS, n.RHS} {
				_, diags := side.Value(c.scope)
				c.report(diags...)
			}
		}
	case *hclsyntax.FunctionCallExpr:
		if _, known := functions[n.Name]; !known {
			c.report(&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Call to unknown function", Subject: n.NameRange.Ptr(),
				Detail: fmt.Sprintf("There is no function named %q.", n.Name)})
		}
	}
	if isLocal(n) {
		c.local++
	}
	return nil
}

// Exit is called behind what is inside of a node.
func (c *checker) Exit(n hclsyntax.Node) hcl.Diagnostics {
	if isLocal(n) {
		c.local--
	}
	return nil
}

func isLocal(n hclsyntax.Node) bool {
	switch n := n.(type) {
	case *hclsyntax.ForExpr, *hclsyntax.SplatExpr:
		return true
	case *hclsyntax.FunctionCallExpr:
		return n.Name == "try" || n.Name == "can"
	}
	return false
}

// report adds what was not found at the same place before.
func (c *checker) report(diags ...*hcl.Diagnostic) {
	for _, d := range diags {
		if !slices.ContainsFunc(c.found, func(o *hcl.Diagnostic) bool {
			return o.Summary == d.Summary && o.Subject != nil && d.Subject != nil && o.Subject.Start == d.Subject.Start
		}) {
			c.found = append(c.found, d)
		}
	}
}

func unknownVariables(when hcl.Expression) (diags hcl.Diagnostics) {
	for _, traversal := range when.Variables() {
		if _, known := vocabulary[traversal.RootName()]; !known {
			diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Unknown variable", Subject: traversal[0].SourceRange().Ptr(),
				Detail: fmt.Sprintf("There is no variable named %q. There are: %s.", traversal.RootName(),
					strings.Join(slices.Sorted(maps.Keys(vocabulary)), ", "))})
		}
	}
	return diags
}

// misspelt finds names of header fields that no request has.
func misspelt(when hcl.Expression) (diags hcl.Diagnostics) {
	for _, traversal := range when.Variables() {
		if traversal.RootName() != "headers" || len(traversal) < 2 {
			continue
		}
		name := ""
		switch step := traversal[1].(type) {
		case hcl.TraverseAttr:
			name = step.Name
		case hcl.TraverseIndex:
			if step.Key.Type() == cty.String {
				name = step.Key.AsString()
			}
		}
		if name != strings.ToLower(name) {
			diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Unknown header", Subject: traversal.SourceRange().Ptr(),
				Detail: fmt.Sprintf("Names of headers are in lower case here: %q.", strings.ToLower(name))})
		}
	}
	return diags
}

// matches reports whether the condition is true.
func (r Rule) matches(s *scope) (bool, error) {
	variables, err := s.variables(r.when.Variables())
	if err != nil {
		return false, err
	}
	v, diags := r.when.Value(&hcl.EvalContext{Variables: variables, Functions: functions})
	switch {
	case diags.HasErrors():
		return false, explain(diags)
	case v.IsNull(), !v.IsKnown(), v.Type() != cty.Bool:
		return false, errors.New("it is neither true nor false")
	}
	return v.True(), nil
}

// explain keeps of diagnostics what can be logged: no source, no values of variables.
func explain(diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			return errors.New(oneLine(d.Summary + ": " + d.Detail))
		}
	}
	return errors.New("it cannot be evaluated")
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

package config

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Address is the data address of a dataset. Printed or marshalled it does not show the properties that are secrets.
type Address struct {
	sdk.DataAddress

	Range hcl.Range // header of the block; zero if there is none

	properties map[string]hcl.Range // where each property is set
	sensitive  map[string]bool      // properties that come from secret(), or that a schema calls sensitive
}

// MarshalJSON shows the address without its secrets.
func (a Address) MarshalJSON() ([]byte, error) {
	shown := a.Clone()
	for name := range a.sensitive {
		shown.Properties[name] = redacted
	}
	return json.Marshal(shown)
}

// GoString shows as little as String.
func (a Address) GoString() string { return a.String() }

// at is where a property is set; the block's header if it is not.
func (a Address) at(property string) hcl.Range {
	if at, ok := a.properties[property]; ok {
		return at
	}
	return a.Range
}

// address reads a source or sink block. Its attributes are the address's properties, but for endpoint, and for properties, a map of
// those whose names are not identifiers.
func (l *loader) address(b *hcl.Block) Address {
	a := Address{
		DataAddress: sdk.DataAddress{Type: l.label(b, checkID), Properties: map[string]string{}},
		Range:       b.DefRange,
		properties:  map[string]hcl.Range{},
		sensitive:   map[string]bool{},
	}
	values := l.values(b)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch v := values[name]; name {
		case "endpoint":
			l.endpoint(&a, v)
		case "properties":
			l.properties(&a, v)
		default:
			l.property(&a, name, v)
		}
	}
	return a
}

func (l *loader) endpoint(a *Address, v value) {
	if v.sensitive {
		l.report(v.at, "Secret not allowed here", "endpoint: it is shown to operators. Put secrets into properties.")
		return
	}
	var err error
	if a.Endpoint, err = nonEmpty(v.Value); err != nil {
		l.report(v.at, "Unsuitable value", "endpoint: %v.", err)
	}
}

func (l *loader) property(a *Address, name string, v value) {
	if _, twice := a.Properties[name]; twice {
		l.report(v.name, "Property set twice", "%q is set as an attribute and in properties.", name)
		return
	}
	s, err := text(v.Value)
	if err != nil {
		l.report(v.at, "Unsuitable value", "%s: %v.", name, err)
		return
	}
	a.Properties[name] = s
	a.properties[name] = v.at
	if v.sensitive {
		a.sensitive[name] = true
	}
}

func (l *loader) properties(a *Address, v value) {
	if kindOf(v.Value) != "a map" {
		l.report(v.at, "Unsuitable value", "properties: %s is not a map: { \"name\" = \"value\" }.", kindOf(v.Value))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(v.AsValueMap())) {
		l.property(a, name, v.element(name))
	}
}

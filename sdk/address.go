package sdk

import (
	"maps"
	"strings"
)

// DataAddress says where data is or where it goes: an EDC data address (Type and Properties) or a DPS one (Type is its
// endpointType, Endpoint its endpoint, Properties its endpointProperties).
//
// Values may be secrets. A DataAddress is therefore never logged as a whole; String leaves the properties out.
type DataAddress struct {
	Type       string            `json:"type"`
	Endpoint   string            `json:"endpoint,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
}

// Get returns a property by its exact name or, failing that, by its local name: what follows the last '/' or '#' of a name, as in
// https://w3id.org/edc/v0.0.1/ns/authorization. It returns "" if there is none.
func (a DataAddress) Get(name string) string {
	if v, ok := a.Properties[name]; ok {
		return v
	}
	// Of several full names with one local name the smallest wins, so that the answer does not depend on map order.
	found, value := "", ""
	for full, v := range a.Properties {
		if LocalName(full) == name && (found == "" || full < found) {
			found, value = full, v
		}
	}
	return value
}

// Clone returns a copy that shares nothing with a.
func (a DataAddress) Clone() DataAddress {
	a.Properties = maps.Clone(a.Properties)
	return a
}

// IsZero reports whether nothing is set.
func (a DataAddress) IsZero() bool {
	return a.Type == "" && a.Endpoint == "" && len(a.Properties) == 0
}

// String returns the type and nothing that could be a secret.
func (a DataAddress) String() string { return "data address of type " + a.Type }

// LocalName returns what follows the last '/' or '#' of a property name.
func LocalName(name string) string {
	return name[strings.LastIndexAny(name, "/#")+1:]
}

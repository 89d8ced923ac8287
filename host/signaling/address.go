package signaling

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// dataAddress is DataAddress as the Dataspace Protocol 2025-1 writes it.
type dataAddress struct {
	Type               string             `json:"@type"`
	EndpointType       string             `json:"endpointType"`
	Endpoint           string             `json:"endpoint,omitempty"`
	EndpointProperties []endpointProperty `json:"endpointProperties"`
}

type endpointProperty struct {
	Type  string `json:"@type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// EDC control planes repeat an address's type and endpoint among its properties, and look for the endpoint only there.
const (
	edcSpace    = "https://w3id.org/edc/v0.0.1/ns/"
	edcType     = edcSpace + "type"
	edcEndpoint = edcSpace + "endpoint"
)

// responseChannel is how the properties of a response channel begin, which are known by their names in EDC's namespace.
const responseChannel = "responseChannel-"

// written is the name of a property in a message.
func written(name string) string {
	if strings.HasPrefix(name, responseChannel) {
		return edcSpace + name
	}
	return name
}

// read is the name of a property of a message within the data plane.
func read(name string) string {
	if bare, ok := strings.CutPrefix(name, edcSpace); ok && strings.HasPrefix(bare, responseChannel) {
		return bare
	}
	return name
}

// encodeAddress returns nil for nil. The properties are sorted by name. There is always one, since the schema wants that, if there
// are any, and EDC that there are any.
func encodeAddress(a *sdk.DataAddress) *dataAddress {
	if a == nil {
		return nil
	}
	properties := make(map[string]string, len(a.Properties)+1)
	for name, value := range a.Properties {
		properties[written(name)] = value
	}
	if _, ok := properties[edcEndpoint]; !ok && a.Endpoint != "" {
		properties[edcEndpoint] = a.Endpoint
	}
	if len(properties) == 0 {
		properties[edcType] = a.Type
	}
	d := &dataAddress{Type: "DataAddress", EndpointType: a.Type, Endpoint: a.Endpoint}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		d.EndpointProperties = append(d.EndpointProperties, endpointProperty{"EndpointProperty", name, properties[name]})
	}
	return d
}

// decodeAddress reads a DataAddress. It requires no @type, takes numbers and booleans for strings among the properties, and leaves
// out the properties with which EDC repeats the type and the endpoint.
func decodeAddress(path string, raw json.RawMessage) (*sdk.DataAddress, error) {
	f, err := parseFields(path, raw)
	if err != nil {
		return nil, err
	}
	a := &sdk.DataAddress{Type: f.required("endpointType"), Endpoint: f.text("endpoint")}
	for i, item := range f.list("endpointProperties") {
		p, err := parseFields(f.index("endpointProperties", i), item)
		if err != nil {
			return nil, err
		}
		name, value := read(p.required("name")), p.scalar("value")
		// Those of a response channel may be there under both names.
		if old, ok := a.Properties[name]; ok && p.err == nil && (old != value || !strings.HasPrefix(name, responseChannel)) {
			p.fail("name", "is there twice: %.100q", name)
		}
		if p.err != nil {
			return nil, p.err
		}
		if a.Properties == nil {
			a.Properties = make(map[string]string)
		}
		a.Properties[name] = value
	}
	dropRepetitions(a)
	return a, f.err
}

func dropRepetitions(a *sdk.DataAddress) {
	if a.Endpoint == "" {
		a.Endpoint = a.Properties[edcEndpoint]
	}
	for name, value := range map[string]string{edcType: a.Type, edcEndpoint: a.Endpoint} {
		if repeated, ok := a.Properties[name]; ok && repeated == value {
			delete(a.Properties, name)
		}
	}
	if len(a.Properties) == 0 {
		a.Properties = nil
	}
}

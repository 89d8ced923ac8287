package edc

import (
	"maps"
	"slices"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// responseChannel is the property whose value is an address of its own: where a dataset takes responses.
const responseChannel = "responseChannel"

// address reads a member that is a data address, nil if it is absent, and the address of the responses to it, nil if it has none.
func (r *reader) address(name string) (a, response *sdk.DataAddress) {
	of := r.object(name)
	if of == nil {
		return nil, nil
	}
	p := properties{own: map[string]string{}, other: map[string]string{}}
	a = &sdk.DataAddress{}
	switch {
	case of.has("endpointProperties"), of.has("endpointType") && !of.has("type"):
		a.Type = bare(of.text("endpointType"))
		a.Endpoint = of.text("endpoint")
		of.endpointProperties(&p)
	default:
		of.flatProperties(&p)
	}
	r.keep(of.err)
	all := p.merged()
	for name, into := range map[string]*string{"type": &a.Type, "endpoint": &a.Endpoint} {
		if *into == "" {
			*into = all[name]
		}
		if all[name] == *into {
			delete(all, name)
		}
	}
	if a.Type == "" {
		of.fail("endpointType", "is required")
		r.keep(of.err)
	}
	if len(all) > 0 {
		a.Properties = all
	}
	return a, p.response
}

// properties gathers the properties of an address. A name in EDC's namespace goes before the same name without.
type properties struct {
	own, other map[string]string
	response   *sdk.DataAddress
}

func (p *properties) merged() map[string]string {
	all := maps.Clone(p.other)
	maps.Copy(all, p.own)
	return all
}

// add takes a property over. r is where it was found, and name where a failure is.
func (p *properties) add(r *reader, name, property string, v any) {
	into, short := p.other, bare(property)
	if short != property {
		into = p.own
	}
	_, twice := into[short]
	s, ok := textOf(v)
	switch {
	case twice:
		r.fail(name, "is there twice: %.100q", short)
	case ok:
		into[short] = s
	case short == responseChannel:
		nested := &reader{node: node{namespace + name: []any{v}}, path: r.path}
		p.response, _ = nested.address(name)
		r.keep(nested.err)
	default:
		r.fail(name, "%.100q is an object where a string belongs", short)
	}
}

// endpointProperties reads the properties of an address as the Dataspace Protocol writes it.
func (r *reader) endpointProperties(p *properties) {
	for i, v := range r.values("endpointProperties") {
		n, ok := nodeOf(v)
		if !ok {
			r.fail(item("endpointProperties", i), "is not an object")
			return
		}
		of := &reader{node: n, path: r.at(item("endpointProperties", i))}
		name, value := of.required("name"), of.one("value")
		if of.err == nil && value == nil {
			of.fail("value", "is required")
		}
		if of.err == nil {
			p.add(of, "value", name, value)
		}
		r.keep(of.err)
	}
}

// flatProperties reads the members of an address as EDC's older documentation writes it.
func (r *reader) flatProperties(p *properties) {
	for _, key := range r.keys() {
		all := items(r.node[key])
		if len(all) > 1 {
			r.fail(bare(key), "has %d values where one belongs", len(all))
		}
		if len(all) == 1 {
			p.add(r, bare(key), key, all[0])
		}
	}
}

// dataAddress is how an answer writes an address.
type dataAddress struct {
	Type               string             `json:"@type"`
	EndpointType       any                `json:"dspace:endpointType"`
	EndpointProperties []endpointProperty `json:"dspace:endpointProperties"`
}

type endpointProperty struct {
	Type  string `json:"@type"`
	Name  string `json:"dspace:name"`
	Value string `json:"dspace:value"`
}

// encodeAddress writes an address in a namespace of the Dataspace Protocol, nil for nil. The first properties are those that EDC's own
// data planes give, the others follow by name.
func encodeAddress(a *sdk.DataAddress, dspace string) *dataAddress {
	if a == nil {
		return nil
	}
	d := &dataAddress{Type: "dspace:DataAddress", EndpointType: a.Type, EndpointProperties: []endpointProperty{}}
	if dspace == dspace2025 {
		d.EndpointType = map[string]string{"@id": a.Type}
	}
	add := func(name, value string) {
		d.EndpointProperties = append(d.EndpointProperties, endpointProperty{"dspace:EndpointProperty", full(name), value})
	}
	left := maps.Clone(withHTTP(a).Properties)
	if a.Endpoint != "" {
		add("endpoint", a.Endpoint)
		add("endpointType", a.Type)
	}
	for _, name := range []string{"authorization", "authType"} {
		if value, ok := left[name]; ok {
			add(name, value)
			delete(left, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		add(name, left[name])
	}
	return d
}

// issued is an address that this data plane has made, as EDC's connectors want it. One whose type is not the profile's name is left as the
// operator or a plugin wants it. Otherwise what is read from the public API has the type that EDC's own data planes give it, and where a
// counterparty writes is an address of the type that its data plane writes to, by HTTP.
func issued(profile func(string) (flow.Profile, bool), a *sdk.DataAddress) *sdk.DataAddress {
	if a == nil || a.Endpoint == "" || profile == nil {
		return a
	}
	p, ok := profile(a.Type)
	if !ok {
		return a
	}
	out := a.Clone()
	if p.Direction == flow.Pull {
		out.Type = httpEndpoint
		return &out
	}
	out.Type, _, _ = split(p.Name)
	return &out
}

// withHTTP adds to an address of type HttpData where to send in the words of EDC's own HttpData sink.
func withHTTP(a *sdk.DataAddress) *sdk.DataAddress {
	if a.Type != httpData || a.Endpoint == "" || a.Get("baseUrl") != "" {
		return a
	}
	out := a.Clone()
	if out.Properties == nil {
		out.Properties = map[string]string{}
	}
	out.Properties["baseUrl"] = a.Endpoint
	if token := a.Get("authorization"); token != "" {
		out.Properties["authKey"], out.Properties["authCode"] = "Authorization", "Bearer "+token
	}
	return &out
}

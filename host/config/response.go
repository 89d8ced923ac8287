package config

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// response reads the response block of a profile, which goes before what the profile's name says.
func (l *loader) response(b *hcl.Block, p Profile) *Response {
	f := l.open(b, responseSchema)
	r := Response{provisionAt: f.header}
	typ := ""
	if p.Response != nil {
		r, typ = *p.Response, p.Response.EndpointType
	}
	if set(f, "type", &typ, nonEmpty) {
		r = responseFor(typ, f.at("type"))
	}
	if set(f, "provision", &r.Provision, nonEmpty) {
		r.EndpointType, r.provisionAt = "", f.at("provision")
	}
	set(f, "endpoint_type", &r.EndpointType, nonEmpty)
	if r.EndpointType == "" && r.Provision == "" {
		r.EndpointType = httpType
	}
	if set(f, "linger", &r.Linger, duration) && p.Direction == Pull && p.Provision == "" {
		l.report(f.at("linger"), "Unsuitable linger", "A pull from the public API ends when a control plane says so, not when everything is sent.")
	}
	return &r
}

// responseFor is the response channel with a type, which is HTTP's or that of a plugin that carries it.
func responseFor(typ string, at hcl.Range) Response {
	if strings.HasPrefix(strings.ToLower(typ), "http") {
		return Response{EndpointType: typ, provisionAt: at}
	}
	return Response{Provision: typ, provisionAt: at}
}

// responseOf reads the response channel off a profile's name of EDC's form DEST-FLOW-RESPONSE, as HttpData-PULL-HttpData. nil if it has
// none.
func responseOf(profile string, at hcl.Range) *Response {
	for _, flow := range []string{"-PUSH-", "-PULL-"} {
		if _, typ, ok := strings.Cut(profile, flow); ok && typ != "" && !strings.Contains(typ, "-") {
			r := responseFor(typ, at)
			return &r
		}
	}
	return nil
}

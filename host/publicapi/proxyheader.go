package publicapi

import (
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// handedOn are the fields of a request that are handed on, without those that an operator adds. A '*' stands for any end.
var handedOn = []string{"Accept", "Accept-*", "Cache-Control", "Content-*", "Idempotency-Key", "If-*", "Last-Event-Id", "Prefer", "Range",
	"Repr-Digest", "Traceparent", "Tracestate", "User-Agent", "Want-Content-Digest", "Want-Repr-Digest"}

// notBack are fields of an answer that do not come back, besides those about the connection: they are about the server's own origin, and
// here would be taken for this host's.
var notBack = []string{"Alt-Svc", "Clear-Site-Data", "Content-Length", "Set-Cookie", "Set-Cookie2", "Strict-Transport-Security"}

// forwarded are the fields of a request that are handed on. Those of content go with it only.
func (h *Handler) forwarded(header http.Header, body bool) (fields []sdk.HeaderField) {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		switch {
		case !httpfield.Forwarded(name), !httpfield.EndToEnd(header, name), !body && strings.HasPrefix(name, "Content-"):
			continue
		case !httpfield.Matches(handedOn, name) && !httpfield.Matches(h.Proxy.Headers, name):
			continue
		}
		for _, value := range header[name] {
			fields = append(fields, sdk.HeaderField{Name: name, Value: value})
		}
	}
	return fields
}

// comesBack reports whether a field of an answer is given back.
func (h *Handler) comesBack(name string) bool {
	return !slices.Contains(notBack, name) || name == "Set-Cookie" && slices.Contains(h.Proxy.Headers, name)
}

// back are the fields of an answer that are given back.
func (h *Handler) back(fields []sdk.HeaderField) http.Header {
	all := http.Header{}
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(f.Value) {
			all[name] = append(all[name], f.Value)
		}
	}
	out := maps.Clone(all)
	maps.DeleteFunc(out, func(name string, _ []string) bool { return !h.comesBack(name) || !httpfield.EndToEnd(all, name) })
	return out
}

// giveBack sets the fields of an answer. The type of content of which the server does not say any is not guessed.
func (p *proxied) giveBack(fields []sdk.HeaderField) {
	p.header()["Content-Type"] = nil
	maps.Copy(p.header(), p.handler.back(fields))
}

// lastField returns the last value of a field, "" if there is none.
func lastField(fields []sdk.HeaderField, name string) string {
	for _, f := range slices.Backward(fields) {
		if textproto.CanonicalMIMEHeaderKey(f.Name) == name {
			return f.Value
		}
	}
	return ""
}

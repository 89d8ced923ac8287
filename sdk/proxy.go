package sdk

import (
	"io"
	"strconv"
	"strings"
)

// ProxyRequest is a request of a counterparty for an address whose properties let it through, see ProxyFlags. A source whose type
// proxies hands it on, and yields the answer as the only part, with a Response. It hands on what the address lets through and no more,
// to nobody but the address's own server, and follows no redirect.
type ProxyRequest struct {
	Method string
	// Path is what stands behind the flow's own, still escaped: "", or with '/' at its beginning.
	Path string
	// Query is still escaped, without '?'.
	Query string
	// Header are the fields that the host lets through, in the order they came. None of them is a credential or about the connection.
	Header []HeaderField
	// Body is nil if there is none. It is read as it comes, by one goroutine, also beside the answer, and waits for whoever sends it; an
	// error says that it will not become whole, and that the request is to be broken off. The stream closes it at its end, whatever that
	// is, and when its context ends. Close ends a Read that waits, and can be called again.
	Body io.ReadCloser
	// Size of Body, or SizeUnknown.
	Size int64
}

// HeaderField is one field of a header, or of a trailer.
type HeaderField struct{ Name, Value string }

// Response is the head of the answer to a ProxyRequest. The part's content is its body, as it is on the wire: encodings are left alone.
// A part with a Response has no other use for PartInfo than Size, that of the body: 0 for an answer that has none.
type Response struct {
	Status int // 200 to 599
	// Header are the fields of the answer, but for those about the connection, in their order for each name.
	Header []HeaderField
}

// ProxyFlags are what the properties proxyMethod, proxyPath, proxyQueryParams and proxyBody of an address let a counterparty's request
// decide.
type ProxyFlags struct{ Method, Path, Query, Body bool }

// ProxyFlagsOf reads the properties. Whoever answers requests calls it for each, and most addresses have none of them.
func ProxyFlagsOf(a DataAddress) ProxyFlags {
	some := false
	for name := range a.Properties {
		some = some || strings.Contains(name, "proxy")
	}
	if !some {
		return ProxyFlags{}
	}
	is := func(property string) bool {
		set, err := strconv.ParseBool(a.Get(property))
		return err == nil && set
	}
	return ProxyFlags{Method: is("proxyMethod"), Path: is("proxyPath"), Query: is("proxyQueryParams"), Body: is("proxyBody")}
}

// Any reports whether requests are handed on at all.
func (f ProxyFlags) Any() bool { return f.Method || f.Path || f.Query || f.Body }

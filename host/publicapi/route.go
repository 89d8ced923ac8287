package publicapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// route is what a path stands for.
type route struct {
	operation operation
	key       flow.Key
	name      string // of a part; not checked
	upload    string // id of an upload of the part
	depth     int    // elements of the path up to the flow's id
	below     string // what stands behind a flow's path, escaped, as it came
	local     bool   // of a Reader
}

// last is the last element of the path at which the flow is, as a relative reference has it.
func (r route) last() string {
	if r.local {
		return localElement
	}
	return url.PathEscape(r.key.ID)
}

// operation is what can be done at a path. It is a label of metrics.
type operation string

const (
	noOperation operation = "none"
	pullFlow    operation = "pull"
	pullPart    operation = "pull-part"
	belowFlow   operation = "pull-below" // a path that only a proxy has
	proxyFlow   operation = "proxy"
	ingestFlow  operation = "ingest"
	ingestPart  operation = "ingest-part"
	uploadPart  operation = "upload"
	seal        operation = "manifest"
	respondFlow operation = "respond"
	respondPart operation = "respond-part"
	publishKeys operation = "jwks"
	renewTokens operation = "renew"
)

// methods are those that an operation takes, in the order in which Allow lists them.
var methods = map[operation][]string{
	pullFlow:    {http.MethodGet, http.MethodHead},
	pullPart:    {http.MethodGet, http.MethodHead},
	ingestFlow:  {http.MethodPost, http.MethodOptions},
	ingestPart:  {http.MethodPut, http.MethodPost, http.MethodOptions, http.MethodHead, http.MethodGet, http.MethodPatch, http.MethodDelete},
	uploadPart:  {http.MethodHead, http.MethodGet, http.MethodPatch, http.MethodDelete},
	seal:        {http.MethodPost},
	respondFlow: {http.MethodPost},
	respondPart: {http.MethodPut, http.MethodPost},
	publishKeys: {http.MethodGet, http.MethodHead},
	renewTokens: {http.MethodPost},
}

// proxyMethods are those that can be handed on.
var proxyMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch,
	http.MethodOptions}

// takes reports whether a method can be for an operation, as far as that can be told without the flow.
func (o operation) takes(method string) bool {
	return slices.Contains(methods[o], method) || o.reads() && slices.Contains(proxyMethods, method)
}

// allowed is the value of Allow.
func allowed(o operation) string { return strings.Join(methods[o], ", ") }

// controls reports whether a request is about an upload, rather than bringing some of it.
func (r route) controls(method string) bool {
	return method == http.MethodOptions || r.operation == uploadPart && method != http.MethodPatch
}

// routeOf returns what a request is about.
func (h *Handler) routeOf(r *http.Request) (route, bool) {
	path := h.escapedPath(r)
	to, ok := parseRoute(path)
	switch {
	case !ok:
	case to.operation == ingestPart && slices.Contains(methods[uploadPart], r.Method):
		to.operation, to.upload = uploadPart, r.URL.Query().Get(uploadParameter)
	case to.operation.reads():
		to.below = behind(path, to.depth)
	}
	return to, ok
}

// responds reports whether the operation is about the flow's response channel.
func (o operation) responds() bool { return o == respondFlow || o == respondPart }

// names reports whether the path has the name of the part that the request brings.
func (o operation) names() bool { return o == ingestPart || o == respondPart }

// element is the first of the path at which the flow takes parts.
func (o operation) element() string {
	if o.responds() {
		return responseElement
	}
	return ingestElement
}

// escapedPath returns the path of a request to the byte: what net/url makes of one is not, if some of it should have been escaped and is
// not.
func (h *Handler) escapedPath(r *http.Request) string {
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	if _, rest, absolute := strings.Cut(raw, "://"); absolute && !strings.HasPrefix(raw, "/") {
		_, path, _ := strings.Cut(rest, "/")
		raw = "/" + path
	}
	for _, path := range []string{strings.TrimPrefix(raw, h.path), raw} {
		if plain, err := url.PathUnescape(path); err == nil && plain == r.URL.Path {
			return path
		}
	}
	return r.URL.EscapedPath()
}

// behind returns what stands behind the first elements of an absolute path.
func behind(path string, elements int) string {
	for range elements {
		at := strings.IndexByte(path[1:], '/')
		if at < 0 {
			return ""
		}
		path = path[at+1:]
	}
	return path
}

// reads reports whether the operation gives data away, rather than taking it.
func (o operation) reads() bool {
	return o == pullFlow || o == pullPart || o == belowFlow || o == proxyFlow
}

const (
	keysPath       = "/.well-known/jwks.json"
	renewalPath    = "/token"
	contextElement = "contexts"
	flowElement    = "flows"
	partElement    = "parts"
	ingestElement  = "ingest"
	sealElement    = "manifests"

	responseElement = "responses"
)

// parseRoute reads the escaped path of a request.
func parseRoute(escaped string) (route, bool) {
	switch escaped {
	case keysPath:
		return route{operation: publishKeys}, true
	case renewalPath:
		return route{operation: renewTokens}, true
	}
	elements, ok := pathElements(escaped)
	if !ok {
		return route{}, false
	}
	key, depth := flow.Key{Context: flow.DefaultContext}, 2
	if len(elements) > 2 && elements[0] == contextElement {
		key.Context, elements, depth = elements[1], elements[2:], 4
	}
	if len(elements) < 2 || key.Context == "" || elements[1] == "" {
		return route{}, false
	}
	key.ID = elements[1]
	return parseFlowRoute(route{key: key, depth: depth}, elements[0], elements[2:])
}

func parseFlowRoute(r route, first string, rest []string) (route, bool) {
	switch {
	case first == flowElement && len(rest) == 0:
		r.operation = pullFlow
	case first == flowElement && len(rest) > 1 && rest[0] == partElement:
		r.operation, r.name = pullPart, strings.Join(rest[1:], "/")
	case first == flowElement:
		r.operation = belowFlow
	case first == ingestElement && len(rest) == 0:
		r.operation = ingestFlow
	case first == ingestElement:
		r.operation, r.name = ingestPart, strings.Join(rest, "/")
	case first == sealElement && len(rest) == 0:
		r.operation = seal
	case first == responseElement && len(rest) == 0:
		r.operation = respondFlow
	case first == responseElement:
		r.operation, r.name = respondPart, strings.Join(rest, "/")
	default:
		return route{}, false
	}
	return r, true
}

// pathElements splits an absolute path and removes the escapes of its elements.
func pathElements(escaped string) ([]string, bool) {
	rest, ok := strings.CutPrefix(escaped, "/")
	if !ok {
		return nil, false
	}
	elements := strings.Split(rest, "/")
	for i, e := range elements {
		plain, err := url.PathUnescape(e)
		if err != nil {
			return nil, false
		}
		elements[i] = plain
	}
	return elements, true
}

// flowPath is the escaped path of a flow below one of the first elements.
func flowPath(first string, key flow.Key) string {
	path := "/" + first + "/" + url.PathEscape(key.ID)
	if key.Context != flow.DefaultContext {
		path = "/" + contextElement + "/" + url.PathEscape(key.Context) + path
	}
	return path
}

// escapeName escapes the elements of a part's name, but not the slashes between them.
func escapeName(name string) string {
	elements := strings.Split(name, "/")
	for i, e := range elements {
		elements[i] = url.PathEscape(e)
	}
	return strings.Join(elements, "/")
}

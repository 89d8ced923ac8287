package main

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// proxy hands a counterparty's request on, as far as the address lets it through, and yields the answer as it is.
func (s *source) proxy(ctx context.Context, req sdk.ReadRequest, yield func(sdk.Part, error) bool) error {
	t, err := newTarget(req.Address, http.MethodGet)
	if err != nil {
		return err
	}
	p := req.Request
	if err := t.take(req.Address, p); err != nil {
		return err
	}
	if err := checkHost(s.env.reader.policy, t.url, baseField(req.Address)); err != nil {
		return err
	}
	resp, err := s.env.proxy.send(ctx, t.proxied(req.Address, p))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	yield(answerOf(resp), nil)
	return nil
}

// take takes over from a counterparty's request where it goes to.
func (t *target) take(a sdk.DataAddress, p *sdk.ProxyRequest) error {
	flags := sdk.ProxyFlagsOf(a)
	if err := t.takeMethod(flags, p.Method); err != nil {
		return err
	}
	if flags.Path {
		if err := t.takePath(a, p.Path); err != nil {
			return err
		}
	}
	if flags.Query {
		appendQuery(t.url, p.Query)
	}
	t.secrets = secretsOf(t)
	return nil
}

// takeMethod makes a GET of the address into the HEAD that is wanted of it, and everything else only if the address says so.
func (t *target) takeMethod(flags sdk.ProxyFlags, method string) error {
	switch {
	case !flags.Method && (method != http.MethodHead || t.method != http.MethodGet):
		return nil
	case !isToken(method), method == http.MethodConnect, method == http.MethodTrace:
		return sdk.Errorf(sdk.Invalid, "the method of the request cannot be handed on")
	}
	t.method = method
	return nil
}

// takePath puts path in place of the address's own. It must not lead out of the URL.
func (t *target) takePath(a sdk.DataAddress, path string) error {
	plain, err := url.PathUnescape(path)
	if err != nil || slices.ContainsFunc(strings.FieldsFunc(plain, isSlash), isDots) {
		return sdk.Errorf(sdk.Invalid, "the path of the request cannot be handed on")
	}
	r := addressReader{address: a}
	u := r.url(path, a.Get("queryParams"))
	if u == nil || len(r.errs) > 0 {
		return sdk.Errorf(sdk.Invalid, "the path of the request cannot be handed on")
	}
	t.url = u
	return nil
}

func isSlash(r rune) bool { return r == '/' || r == '\\' }

// isDots reports whether an element of a path leads elsewhere, also for servers that take what is behind ';' for its parameters.
func isDots(element string) bool {
	name, _, _ := strings.Cut(element, ";")
	return name == "." || name == ".."
}

// proxied returns the request that is handed on.
func (t *target) proxied(a sdk.DataAddress, p *sdk.ProxyRequest) *http.Request {
	req := &http.Request{Method: t.method, URL: t.url, Header: t.header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	body := sdk.ProxyFlagsOf(a).Body && p.Body != nil
	for _, f := range p.Header {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		_, ours := t.header[name]
		// What a counterparty may set of what can be handed on is the host's to say.
		if !ours && isToken(name) && isFieldValue(f.Value) && httpfield.Forwarded(name) && (body || !isOfContent(name)) {
			req.Header[name] = append(req.Header[name], f.Value)
		}
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", userAgent)
	}
	if body {
		req.Body, req.ContentLength = p.Body, p.Size
		if p.Size < 0 {
			req.ContentLength = -1
		}
	}
	return req
}

// isOfContent reports whether a field says something of a body.
func isOfContent(name string) bool { return strings.HasPrefix(name, "Content-") }

// answerOf is an answer as a part that is read once.
func answerOf(resp *http.Response) sdk.Part {
	size := resp.ContentLength
	if resp.Request.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		size = 0
	}
	return sdk.Part{
		PartInfo: sdk.PartInfo{Name: "response", Size: size, TotalParts: 1,
			Response: &sdk.Response{Status: resp.StatusCode, Header: endToEnd(resp.Header)}},
		Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
			if offset > 0 {
				return nil, sdk.ErrFromStart
			}
			return io.NopCloser(resp.Body), nil
		},
		Trailer: func() []sdk.HeaderField { return endToEnd(resp.Trailer) },
	}
}

// endToEnd returns the fields that are not about the connection.
func endToEnd(h http.Header) (fields []sdk.HeaderField) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if !httpfield.EndToEnd(h, name) {
			continue
		}
		for _, value := range h[name] {
			fields = append(fields, sdk.HeaderField{Name: name, Value: value})
		}
	}
	return fields
}

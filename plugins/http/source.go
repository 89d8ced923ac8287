package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"mime"
	"net/http"
	"net/url"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// source reads what HTTP servers answer.
type source struct{ env *environment }

var (
	_ sdk.Source    = (*source)(nil)
	_ sdk.Validator = (*source)(nil)
)

// Validate checks the URL and the header of the request, without resolving the host.
func (s *source) Validate(_ context.Context, a sdk.DataAddress) error {
	t, err := newSourceTarget(a)
	if err != nil {
		return err
	}
	return checkHost(s.env.reader.policy, t.url, baseField(a))
}

// newSourceTarget returns the request for an address that is read. A DPS address may hold a listing, and is asked for it.
func newSourceTarget(a sdk.DataAddress) (*target, error) {
	t, err := newTarget(a, http.MethodGet)
	if err != nil {
		return nil, err
	}
	if name := a.Get("name"); name != "" {
		if err := sdk.CheckName(name); err != nil {
			return nil, invalidField("name", err.Error())
		}
	}
	if a.Endpoint != "" && t.header.Get("Accept") == "" {
		t.header.Set("Accept", listingMediaType+", */*;q=0.9")
	}
	return t, nil
}

// checkHost turns what the policy says of a URL into an error of the field that it is in.
func checkHost(p *outbound.Policy, u *url.URL, field string) error {
	if err := p.CheckURL(u); err != nil {
		return invalidField(field, err.Error())
	}
	return nil
}

// Read yields the answer as one part, or the parts of the listing that the answer is.
func (s *source) Read(ctx context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		if err := s.read(ctx, req, yield); err != nil {
			yield(sdk.Part{}, err)
		}
	}
}

// read returns an error only while more is wanted.
func (s *source) read(ctx context.Context, req sdk.ReadRequest, yield func(sdk.Part, error) bool) error {
	if req.Request != nil {
		return s.proxy(ctx, req, yield)
	}
	t, err := newSourceTarget(req.Address)
	if err != nil {
		return err
	}
	// A flow that goes on inside a part has no use for the whole of it.
	inside := req.After != nil && !req.After.Finished && req.After.Offset > 0
	resp, err := s.first(ctx, t, req.List || inside)
	if err != nil {
		return err
	}
	if isListing(resp) {
		return s.yieldListed(ctx, t, resp, yield)
	}
	r := newResource(s.env.reader, t, resp, req.Address)
	defer r.close()
	yield(r.part(), nil)
	return nil
}

// first sends the request that says what the address holds. Its body, if it has one, is what the part is opened with; bare asks for none.
func (s *source) first(ctx context.Context, t *target, bare bool) (*http.Response, error) {
	head := bare && t.method == http.MethodGet
	if !head {
		return s.ask(ctx, t, t.method)
	}
	resp, err := s.ask(ctx, t, http.MethodHead)
	switch {
	case errors.Is(err, errNoHead):
		return s.ask(ctx, t, t.method)
	case err == nil && isListing(resp):
		resp.Body.Close()
		return s.ask(ctx, t, t.method)
	}
	return resp, err
}

// errNoHead says that a server does not know HEAD.
var errNoHead = errors.New("no HEAD")

// ask sends the request of a target and returns an answer with the whole content, or errNoHead.
func (s *source) ask(ctx context.Context, t *target, method string) (*http.Response, error) {
	resp, err := s.env.reader.send(ctx, t.request(method))
	if err != nil {
		return nil, err
	}
	status := resp.StatusCode
	switch {
	case method == http.MethodHead && (status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented):
		resp.Body.Close()
		return nil, errNoHead
	case !isWhole(status):
		return nil, s.env.reader.refused(resp, t)
	}
	return resp, nil
}

// isWhole reports whether an answer with this status has the whole content.
func isWhole(status int) bool {
	return status >= 200 && status < 300 && status != http.StatusPartialContent
}

// isListing reports whether an answer lists parts.
func isListing(resp *http.Response) bool {
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && mediaType == listingMediaType
}

// yieldListed yields all parts, also before the one that a flow goes on with: they cost nothing until they are opened.
func (s *source) yieldListed(ctx context.Context, t *target, resp *http.Response, yield func(sdk.Part, error) bool) error {
	entries, err := readListing(resp)
	if err != nil {
		return fmt.Errorf("%s: %w", describe(resp.Request), err)
	}
	for _, e := range entries {
		r := &resource{client: s.env.reader, target: t.at(e.url), info: e.info, ifRange: e.ifRange, digests: e.digests}
		more := yield(r.part(), nil)
		r.close()
		if !more {
			return nil
		}
	}
	return ctx.Err()
}

package sdktest

import (
	"context"
	"io"
	"iter"
	"net/http"
	"slices"

	"github.com/towpath-dataplane/towpath/sdk"
)

// ProxyType is the type of addresses that a ProxySource reads.
const ProxyType = "Proxied"

// ProxySource returns a source that hands every request on, whole, to the HTTP server that its address names, and has no data of its
// own. It passes TestProxy.
func ProxySource() sdk.SourceType {
	return sdk.SourceType{
		AddressType: sdk.AddressType{Type: ProxyType, Proxies: true, Address: sdk.Schema{Open: true,
			Fields: []sdk.Field{{Name: "baseUrl", Kind: sdk.URL, Required: true}}}},
		Source: proxySource{&http.Transport{DisableCompression: true, DisableKeepAlives: true}},
	}
}

// ProxyAddress returns the address of a server. Properties are given by name and value; without any, everything is let through.
func ProxyAddress(url string, properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: ProxyType, Properties: map[string]string{"baseUrl": url}}
	if len(properties) == 0 {
		properties = []string{"proxyMethod", "true", "proxyPath", "true", "proxyQueryParams", "true", "proxyBody", "true"}
	}
	for pair := range slices.Chunk(properties, 2) {
		a.Properties[pair[0]] = pair[1]
	}
	return a
}

type proxySource struct{ transport *http.Transport }

func (s proxySource) Read(ctx context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		if req.Request == nil {
			yield(sdk.Part{}, sdk.Errorf(sdk.Unsupported, "only requests that are handed on have an answer"))
			return
		}
		out, err := outgoing(ctx, req)
		if err != nil {
			yield(sdk.Part{}, sdk.Errorf(sdk.Invalid, "%w", err))
			return
		}
		resp, err := s.transport.RoundTrip(out)
		if err != nil {
			yield(sdk.Part{}, sdk.Retryf(sdk.Unavailable, "%w", err))
			return
		}
		defer resp.Body.Close()
		yield(incoming(resp), nil)
	}
}

func outgoing(ctx context.Context, req sdk.ReadRequest) (*http.Request, error) {
	p := req.Request
	url := req.Address.Get("baseUrl") + p.Path
	if p.Query != "" {
		url += "?" + p.Query
	}
	out, err := http.NewRequestWithContext(ctx, p.Method, url, nil)
	if err != nil {
		return nil, err
	}
	for _, f := range p.Header {
		out.Header.Add(f.Name, f.Value)
	}
	if p.Body != nil {
		out.Body, out.ContentLength = p.Body, p.Size
	}
	return out, nil
}

func incoming(resp *http.Response) sdk.Part {
	size := resp.ContentLength
	if resp.Request.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		size = 0
	}
	return sdk.Part{
		PartInfo: sdk.PartInfo{Name: "answer", Size: size, Response: &sdk.Response{Status: resp.StatusCode, Header: listed(resp.Header)}},
		Open: func(context.Context, int64) (io.ReadCloser, error) {
			return unbroken{resp.Body}, nil
		},
		Trailer: func() []sdk.HeaderField { return listed(resp.Trailer) },
	}
}

func listed(h http.Header) (fields []sdk.HeaderField) {
	for name, values := range h {
		for _, v := range values {
			fields = append(fields, sdk.HeaderField{Name: name, Value: v})
		}
	}
	return fields
}

// unbroken says of a body that breaks that trying again can help.
type unbroken struct{ io.ReadCloser }

func (u unbroken) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = sdk.Retryf(sdk.Unavailable, "%w", err)
	}
	return n, err
}

package main

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// redirectRule returns the CheckRedirect of a client for one value of the redirects setting.
func redirectRule(redirects string, p *outbound.Policy) func(*http.Request, []*http.Request) error {
	if redirects == redirectsNone {
		return func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return func(req *http.Request, via []*http.Request) error {
		if err := checkRedirect(req, via, redirects); err != nil {
			return err
		}
		if err := p.CheckURL(req.URL); err != nil {
			return sdk.Errorf(sdk.Denied, "redirected to %s: %w", shown(req.URL), err)
		}
		req.Header.Del("Referer") // it has the query of the URL before
		if !stayed(req, via) {
			req.Header = withoutCredentials(req.Header)
		}
		return nil
	}
}

func checkRedirect(req *http.Request, via []*http.Request, redirects string) error {
	first, last := via[0], via[len(via)-1]
	refuse := func(why string) error {
		return sdk.Errorf(sdk.Denied, "redirected to %s: %s", shown(req.URL), why)
	}
	switch {
	case len(via) > maxRedirects:
		return sdk.Errorf(sdk.Invalid, "redirected more than %d times", maxRedirects)
	case req.Method != first.Method:
		return refuse("it would turn " + first.Method + " into " + req.Method)
	case last.URL.Scheme == "https" && req.URL.Scheme != "https":
		return refuse("it leaves HTTPS")
	case redirects == redirectsSameHost && !sameHost(first.URL, req.URL):
		return refuse("redirects to another host are not allowed")
	}
	return nil
}

// stayed reports whether no request of the chain went to another host. Once it has, what comes back may be chosen by that host.
func stayed(req *http.Request, via []*http.Request) bool {
	for _, r := range via {
		if !sameHost(via[0].URL, r.URL) {
			return false
		}
	}
	return sameHost(via[0].URL, req.URL)
}

// sameHost reports whether two URLs lead to one host and port, or from plain HTTP to HTTPS at their usual ports.
func sameHost(a, b *url.URL) bool {
	hostA, hostB := outbound.HostPort(a), outbound.HostPort(b)
	if a.Scheme == "http" && b.Scheme == "https" {
		nameA, usualA := strings.CutSuffix(hostA, ":80")
		nameB, usualB := strings.CutSuffix(hostB, ":443")
		if usualA && usualB {
			return nameA == nameB
		}
	}
	return hostA == hostB
}

// withoutCredentials keeps the fields that cannot be one. Custom fields often are.
func withoutCredentials(h http.Header) http.Header {
	kept := http.Header{}
	for _, name := range []string{"Accept", "Accept-Encoding", "If-Range", "Range", "User-Agent", "Want-Repr-Digest"} {
		if values := h.Values(name); len(values) > 0 {
			kept[name] = values
		}
	}
	return kept
}

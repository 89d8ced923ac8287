package main

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// proxy takes over from a counterparty's request what the address says it may decide.
func (t *target) proxy(a sdk.DataAddress, p *sdk.ProxyRequest) error {
	if p == nil {
		return nil
	}
	if isTrue(a, "proxyMethod") && p.Method != "" && p.Method != http.MethodHead {
		r := addressReader{address: a}
		r.checkMethod(p.Method)
		if len(r.errs) > 0 {
			return sdk.Errorf(sdk.Invalid, "the method of the request cannot be handed on")
		}
		t.method = p.Method
	}
	if isTrue(a, "proxyPath") {
		if err := t.proxyPath(a, p.Path); err != nil {
			return err
		}
	}
	if isTrue(a, "proxyQueryParams") {
		appendQuery(t.url, p.Query)
	}
	if contentType := headerOf(p, "Content-Type"); isTrue(a, "proxyBody") && contentType != "" && isFieldValue(contentType) {
		t.body = p.Body
		t.header.Set("Content-Type", contentType)
	}
	t.secrets = secretsOf(t)
	return nil
}

// proxyPath puts path in place of the address's own. It must not lead out of the URL.
func (t *target) proxyPath(a sdk.DataAddress, path string) error {
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

func isDots(element string) bool { return element == "." || element == ".." }

func isTrue(a sdk.DataAddress, property string) bool {
	set, err := strconv.ParseBool(a.Get(property))
	return err == nil && set
}

func headerOf(p *sdk.ProxyRequest, name string) string {
	for _, h := range p.Header {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

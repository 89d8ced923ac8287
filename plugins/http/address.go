package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

const defaultMediaType = "application/octet-stream"

// target is the request that a data address asks for.
type target struct {
	url     *url.URL
	method  string
	header  http.Header
	body    []byte
	secrets []string // values that a message must not repeat, the longest first
}

// newTarget reads what the addresses of sources and sinks have in common. method is the one used if the address names none.
func newTarget(a sdk.DataAddress, method string) (*target, error) {
	if err := checkSupported(a); err != nil {
		return nil, err
	}
	r := addressReader{address: a}
	t := &target{
		url:    r.url(a.Get("path"), a.Get("queryParams")),
		method: cmp.Or(a.Get("method"), method),
		header: r.header(),
	}
	r.checkMethod(t.method)
	if err := sdk.InvalidFields(r.errs); err != nil {
		return nil, err
	}
	t.secrets = secretsOf(t)
	return t, nil
}

// checkSupported refuses credentials that this plugin cannot fetch, rather than sending requests without them.
func checkSupported(a sdk.DataAddress) error {
	for name, value := range a.Properties {
		local := sdk.LocalName(name)
		if value != "" && (local == "secretName" || strings.HasPrefix(local, "oauth2:")) {
			return sdk.Errorf(sdk.Unsupported, "%s: credentials that have to be fetched first are not supported yet; use authKey and authCode, "+
				"or authorization", local)
		}
	}
	return nil
}

// addressReader collects what is wrong with an address.
type addressReader struct {
	address sdk.DataAddress
	errs    []sdk.FieldError
}

func (r *addressReader) fail(field, message string) {
	r.errs = append(r.errs, sdk.FieldError{Field: field, Message: message})
}

// baseField is the name of the field that an address's URL is in.
func baseField(a sdk.DataAddress) string {
	if a.Endpoint != "" {
		return "endpoint"
	}
	return "baseUrl"
}

func (r *addressReader) url(path, query string) *url.URL {
	field := baseField(r.address)
	base := cmp.Or(r.address.Endpoint, r.address.Get("baseUrl"))
	if base == "" {
		r.fail(field, "is required")
		return nil
	}
	u := r.parse(field, base)
	if u == nil {
		return nil
	}
	if path != "" && !appendPath(u, path) {
		r.fail("path", "is not a URL's path")
	}
	appendQuery(u, query)
	return u
}

// parse reads an absolute URL. What is wrong is said without the value, which may carry a secret.
func (r *addressReader) parse(field, value string) *url.URL {
	u, err := url.Parse(value)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		r.fail(field, "is not an absolute http or https URL")
		return nil
	case u.User != nil:
		r.fail(field, "has a user name or password; use authorization or authKey")
		return nil
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			r.fail(field, "has a port that is not one")
			return nil
		}
	}
	u.Fragment, u.RawFragment = "", ""
	u.RawQuery = escapeQuery(u.RawQuery)
	return u
}

// appendPath adds an escaped path behind a URL's own, with one slash between.
func appendPath(u *url.URL, path string) bool {
	raw := strings.TrimSuffix(u.EscapedPath(), "/") + "/" + escape(strings.TrimPrefix(path, "/"), "\"<>#?\\^`{|}")
	plain, err := url.PathUnescape(raw)
	if err != nil {
		return false
	}
	u.Path, u.RawPath = plain, raw
	return true
}

func appendQuery(u *url.URL, query string) {
	query = escapeQuery(strings.TrimPrefix(query, "?"))
	if u.RawQuery != "" && query != "" {
		query = "&" + query
	}
	u.RawQuery += query
}

// escapeQuery escapes what must not stand in a query.
func escapeQuery(query string) string { return escape(query, `"<>#`) }

// escape escapes the given bytes and those that stand nowhere in a URL. What is escaped already stays as it is.
func escape(s, unsafe string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(unsafe, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (r *addressReader) checkMethod(method string) {
	switch {
	case !isToken(method):
		r.fail("method", "is not a method")
	case slices.Contains([]string{http.MethodConnect, http.MethodTrace, http.MethodHead}, method):
		r.fail("method", method+" does not transfer data")
	}
}

// header returns the fields that the address asks for.
func (r *addressReader) header() http.Header {
	h := http.Header{}
	for name, value := range headerProperties(r.address) {
		if http.CanonicalHeaderKey(name) != "Content-Type" {
			r.setHeader(h, "header:"+name, name, value)
		}
	}
	switch key, code := r.address.Get("authKey"), r.address.Get("authCode"); {
	case key != "" && code != "":
		r.setHeader(h, "authKey", key, code)
	case key != "":
		r.fail("authCode", "is required with authKey")
	case code != "":
		r.fail("authKey", "is required with authCode")
	}
	if token := r.address.Get("authorization"); token != "" {
		r.setHeader(h, "authorization", "Authorization", r.credentials(token))
	}
	return h
}

// headerProperties returns the values of the properties header:<Name>. The plain name goes before a namespaced one.
func headerProperties(a sdk.DataAddress) map[string]string {
	fields := map[string]string{}
	for full := range a.Properties {
		if name, ok := strings.CutPrefix(sdk.LocalName(full), "header:"); ok {
			fields[name] = a.Get("header:" + name)
		}
	}
	return fields
}

func (r *addressReader) setHeader(h http.Header, field, name, value string) {
	switch {
	case !isToken(name):
		r.fail(field, "is not the name of a header field")
	case isOwnHeader(name):
		r.fail(field, http.CanonicalHeaderKey(name)+" is set by the plugin")
	case !isFieldValue(value):
		r.fail(field, "is not a value for a header field")
	case h.Get(name) != "" && h.Get(name) != value:
		r.fail(field, http.CanonicalHeaderKey(name)+" has two values")
	default:
		h.Set(name, value)
	}
}

// credentials returns the value of Authorization for a token, which may have its scheme already.
func (r *addressReader) credentials(token string) string {
	scheme := cmp.Or(r.address.Get("authType"), "bearer")
	if strings.EqualFold(scheme, "bearer") {
		scheme = "Bearer"
	}
	if !isToken(scheme) {
		r.fail("authType", "is not an authentication scheme")
	}
	if first, _, ok := strings.Cut(token, " "); ok && strings.EqualFold(first, scheme) {
		return token
	}
	return scheme + " " + token
}

// isOwnHeader reports whether a field decides how the message is framed, routed or cut, which is not the address's to say.
func isOwnHeader(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Te", "Trailer", "Upgrade", "Expect", "Keep-Alive",
		"Proxy-Connection", "Proxy-Authorization", "Accept-Encoding", "Content-Encoding", "Content-Disposition", "Range", "If-Range":
		return true
	}
	return false
}

func isTrue(a sdk.DataAddress, property string) bool {
	set, err := strconv.ParseBool(a.Get(property))
	return err == nil && set
}

func isToken(s string) bool {
	const special = "!#$%&'*+-.^_`|~"
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(special, c) >= 0) {
			return false
		}
	}
	return s != ""
}

func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

// secretsOf lists what must not be repeated from an answer that quotes the request.
func secretsOf(t *target) []string {
	var secrets []string
	add := func(values ...string) {
		for _, v := range values {
			if len(v) >= 4 {
				secrets = append(secrets, v)
			}
		}
	}
	for _, values := range t.header {
		add(values...)
		for _, v := range values {
			_, token, _ := strings.Cut(v, " ")
			add(token)
		}
	}
	add(t.url.RawQuery)
	for _, values := range t.url.Query() {
		add(values...)
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	return secrets
}

// hide removes secrets of the request, and queries of URLs, from a message.
func (t *target) hide(message string) string {
	for _, secret := range t.secrets {
		message = strings.ReplaceAll(message, secret, "...")
	}
	return withoutQueries(message)
}

package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// webURL reads an absolute HTTP URL. A URL may have a password or a token in it, so no error repeats it.
func webURL(v cty.Value) (*url.URL, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("it is not a URL that begins with http:// or https:// and a host")
	case u.User != nil:
		return nil, exposed{errors.New("a user or password in a URL is not supported")}
	case u.Fragment != "" || strings.HasSuffix(s, "#"):
		return nil, errors.New("it has a fragment, which is never sent")
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, errors.New("its port is not from 0 to 65535")
		}
	}
	return u, nil
}

// endpointURL reads the URL of one thing, which may have a query.
func endpointURL(v cty.Value) (string, error) {
	if _, err := webURL(v); err != nil {
		return "", err
	}
	return text(v)
}

// baseURL reads an absolute HTTP URL to which paths are added.
func baseURL(v cty.Value) (string, error) {
	u, err := webURL(v)
	if err != nil {
		return "", err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return "", errors.New("it has a query, and has to end with its path")
	}
	s, err := text(v)
	return strings.TrimRight(s, "/"), err
}

// baseURLs reads a list of them.
func baseURLs(v cty.Value) ([]string, error) {
	all, err := nonEmptyTexts(v)
	for i, s := range all {
		if all[i], err = baseURL(cty.StringVal(s)); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return all, err
}

// hostURL reads an absolute HTTP URL without a path.
func hostURL(v cty.Value) (string, error) {
	s, err := baseURL(v)
	if err != nil {
		return "", err
	}
	if u, err := url.Parse(s); err != nil || u.Path != "" {
		return "", errors.New("it has a path, for which there is base_path")
	}
	return s, nil
}

// registrationURL reads the URL to which /dataplanes is added.
func registrationURL(v cty.Value) (string, error) {
	s, err := baseURL(v)
	if strings.HasSuffix(s, "/dataplanes") {
		return "", errors.New("it ends with /dataplanes, which is added")
	}
	return s, err
}

// resourceURI reads the name of a resource: an absolute URI, which need not lead anywhere.
func resourceURI(v cty.Value) (string, error) {
	s, err := nonEmpty(v)
	if err != nil {
		return "", err
	}
	if u, err := url.Parse(s); err != nil || !u.IsAbs() || strings.Contains(s, "#") {
		return "", errors.New("it is not an absolute URI without a fragment")
	}
	return s, nil
}

// basePath reads what comes before all paths of an API.
func basePath(v cty.Value) (string, error) {
	s, err := text(v)
	if err != nil || s == "" || s == "/" {
		return "", err
	}
	if !basePathPattern.MatchString(s) || path.Clean(s) != s {
		return "", fmt.Errorf("%q is not a path such as \"/api/v1\"", s)
	}
	return s, nil
}

var basePathPattern = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

func isHTTPS(url string) bool { return strings.HasPrefix(strings.ToLower(url), "https:") }

// loopbackHost reports whether a host is this machine.
func loopbackHost(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	ip := net.ParseIP(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || ip != nil && ip.IsLoopback()
}

// allowed reads a list of what may be reached: "loopback", a host, host:port, an IP address, a network.
func allowed(v cty.Value) ([]string, error) {
	entries, err := texts(v)
	for _, e := range entries {
		if !allowable(e) {
			return nil, fmt.Errorf("%q is not \"loopback\", a host, host:port, an IP address or a network", e)
		}
	}
	return entries, err
}

func allowable(entry string) bool {
	if _, err := netip.ParsePrefix(entry); err == nil {
		return true
	}
	host := entry
	if h, port, err := net.SplitHostPort(entry); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host != "" && !strings.Contains(host, ":") && !strings.ContainsFunc(host, notInHost)
}

// did reads a DID.
func did(v cty.Value) (string, error) {
	s, err := nonEmpty(v)
	switch {
	case err != nil:
		return "", err
	case !didPattern.MatchString(s):
		return "", fmt.Errorf("%q is not a DID such as \"did:web:participant.example.com\"", s)
	case didPortPattern.MatchString(s):
		return "", fmt.Errorf("%q: the port of a did:web is written with %%3A, not with a colon", s)
	}
	return s, nil
}

var (
	didPattern     = regexp.MustCompile(`^did:[a-z0-9]+(:([A-Za-z0-9._-]|%[0-9A-Fa-f]{2})+)+$`)
	didPortPattern = regexp.MustCompile(`^did:web:[^:]+:[0-9]+(:|$)`)
)

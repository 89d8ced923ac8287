package main

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// grants list the buckets for which an address may use the operator's credentials.
type grants []grant

type grant struct {
	endpoint string // scheme, host and port; "" for Amazon's own
	bucket   string // a pattern
}

func parseGrants(entries []string) (grants, error) {
	var all grants
	for _, entry := range entries {
		g, err := parseGrant(entry)
		if err != nil {
			return nil, invalidField("default_credentials", err.Error())
		}
		all = append(all, g)
	}
	return all, nil
}

func parseGrant(entry string) (grant, error) {
	wrong := fmt.Errorf("%q is neither a bucket nor an endpoint with a bucket", entry)
	g := grant{bucket: entry}
	if strings.Contains(entry, "://") {
		u, err := url.Parse(entry)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" {
			return g, wrong
		}
		g.endpoint, g.bucket = origin(u), strings.TrimPrefix(u.Path, "/")
	}
	if g.bucket == "" || strings.Trim(g.bucket, bucketLetters+"*") != "" {
		return g, wrong
	}
	return g, nil
}

// allow reports whether the operator's credentials may be used for a bucket at an endpoint, nil for Amazon's own.
func (g grants) allow(endpoint *url.URL, bucket string) bool {
	at := ""
	if endpoint != nil {
		at = origin(endpoint)
	}
	for _, grant := range g {
		if ok, _ := path.Match(grant.bucket, bucket); ok && grant.endpoint == at {
			return true
		}
	}
	return false
}

// origin is a URL's scheme, host and port, written in one way only.
func origin(u *url.URL) string { return strings.ToLower(u.Scheme) + "://" + outbound.HostPort(u) }

package config

import (
	"net"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// finish checks what one block alone cannot show, and fills in the defaults that follow from other values.
func (l *loader) finish() {
	c := l.config
	if !l.source.broken {
		l.requireBlocks()
	}
	if c.Store.Path == "" {
		c.Store.Path = filepath.Join(c.DataPlane.DataDir, defaultStoreFile)
	}
	for _, p := range c.Plugins.Declared {
		if c.Plugins.Trust == TrustPinned && p.SHA256 == "" {
			l.report(p.Range, "Missing pin", "plugins has trust = %q, so the plugin needs its sha256.", TrustPinned)
		}
	}
	l.publicURL(&c.Public)
	l.distinctPorts()
}

// requireBlocks reports blocks without which nothing can run.
func (l *loader) requireBlocks() {
	at := hcl.Range{Filename: l.source.root}
	for _, b := range []struct{ typ, example string }{
		{"dataplane", `dataplane "id" { … }`},
		{"plugins", `plugins { directory = "…" }`},
		{"control_plane", `control_plane "id" { endpoint = "https://…" }`},
		{"profile", `profile "http-pull" { … }`},
	} {
		if !l.any(b.typ) {
			l.report(at, "Missing block", "There is no %s block: %s", b.typ, b.example)
		}
	}
}

// any reports whether a block of a type was seen.
func (l *loader) any(typ string) bool {
	for key := range l.seen {
		if name, _, _ := strings.Cut(key, " "); name == typ {
			return true
		}
	}
	return false
}

// publicURL derives what counterparties are told from the public listener's address.
func (l *loader) publicURL(public *Listener) {
	host, port, err := net.SplitHostPort(public.Address)
	if err != nil || public.URL != "" || port == "0" {
		return
	}
	if everywhere(host) {
		l.report(public.Range, "Missing url", "Counterparties cannot be told %q, which stands for all interfaces. Set url.", public.Address)
		return
	}
	scheme := "http://"
	if public.TLS != nil {
		scheme = "https://"
	}
	public.URL = scheme + public.Address
}

// distinctPorts reports listeners that cannot both be opened.
func (l *loader) distinctPorts() {
	c := l.config
	listeners := []struct {
		name string
		*Listener
	}{{"signaling", &c.Signaling}, {"public", &c.Public}, {"admin", &c.Admin}}
	for i, later := range listeners {
		for _, earlier := range listeners[:i] {
			if !overlap(earlier.Address, later.Address) {
				continue
			}
			at := later.Range
			if at.Filename == "" {
				at = earlier.Range
			}
			l.report(at, "Same address twice", "%s listens on %s, and %s on %s.", later.name, later.Address, earlier.name, earlier.Address)
		}
	}
}

// overlap reports whether two addresses have a port in common.
func overlap(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB || portA == "0" {
		return false
	}
	return everywhere(hostA) || everywhere(hostB) || canonical(hostA) == canonical(hostB)
}

func everywhere(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func canonical(host string) string {
	if host == "localhost" {
		return "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.String()
	}
	return strings.ToLower(host)
}

package config

import (
	"net"
	"path/filepath"
	"slices"
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
	l.finishTrust()
	if c.Public.reachedNowhere() && c.Public.URL == "" {
		l.report(c.Public.Range, "Missing url", "Counterparties cannot be told %q, which stands for all interfaces. Set url.", c.Public.Address)
	}
	for _, listener := range []*Listener{&c.Signaling, &c.Public} {
		if listener.URL == "" {
			listener.URL = listener.defaultURL()
		}
	}
	l.distinctPorts()
	l.finishContexts()
	l.finishControlPlanes()
	l.finishURLs()
	l.strictProfiles()
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
		if !l.any(b.typ) && !(b.typ == "control_plane" && slices.ContainsFunc(l.config.ParticipantContexts, ParticipantContext.registers)) {
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

// defaultURL is what a listener's address says to others; "" if it says nothing.
func (l Listener) defaultURL() string {
	_, port, err := net.SplitHostPort(l.Address)
	switch {
	case err != nil, port == "0", l.reachedNowhere():
		return ""
	case l.TLS != nil:
		return "https://" + l.Address
	default:
		return "http://" + l.Address
	}
}

// reachedNowhere reports whether the listener's address cannot be told to others: it stands for all interfaces, and the port is known.
func (l Listener) reachedNowhere() bool {
	host, port, err := net.SplitHostPort(l.Address)
	return err == nil && port != "0" && everywhere(host)
}

// strictProfiles reports profiles under which no address could be issued: they demand HTTPS, and the public API is not reached by it.
func (l *loader) strictProfiles() {
	public := l.config.Public
	secure := public.TLS != nil
	if public.URL != "" {
		secure = isHTTPS(public.URL)
	}
	if secure || public.URL == "" && public.reachedNowhere() {
		return
	}
	for _, p := range l.config.Profiles {
		issues := p.Provision == "" && l.serves(p.Direction) || p.Response != nil && p.Response.Provision == "" && l.serves(Pull)
		if p.Strict && !p.AllowHTTP && issues {
			l.report(p.Range, "No HTTPS", "The profile demands HTTPS, and counterparties are told an http:// URL, so no address could be issued. "+
				"Give listen \"public\" an https:// url or tls, or set allow_http = true here.")
		}
	}
}

// serves reports whether there is a dataset for which the public API is served in a direction: the provider's end of a pull, or the
// consumer's of a push.
func (l *loader) serves(d Direction) bool {
	return slices.ContainsFunc(l.config.Datasets, func(s Dataset) bool {
		return d == Pull && !s.Source.IsZero() || d == Push && !s.Sink.IsZero()
	})
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

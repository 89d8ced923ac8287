package edc

import (
	"net"
	"net/url"
	"slices"
	"strings"
)

// callback returns where the callbacks of a flow go by what its message says: there if the operator knows the origin, and otherwise "",
// the control plane's endpoint.
func (h *Handler) callback(r *request, address string) string {
	if address == "" {
		return ""
	}
	if slices.Contains(h.origins, origin(address)) {
		return address
	}
	h.Logger.Warn("callbackAddress is not at the control plane's endpoint, nor among callback_addresses: callbacks go to the endpoint",
		"control_plane", h.ControlPlane, "flow", r.to.id, "origin", origin(address), "endpoint", h.Endpoint)
	return ""
}

// origin is the scheme, host and port of a URL that has nothing but a path after that, "" of anything else.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" ||
		u.ForceQuery || u.Fragment != "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

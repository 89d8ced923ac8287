package publicapi

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/netip"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// AccessRequest is a request with a good token, for whoever decides whether it may go on.
type AccessRequest struct {
	Flow       *flow.Flow
	Method     string
	Path       string // escaped; it begins behind the PublicURL
	Query      string
	Header     http.Header // without Authorization
	RemoteAddr string      // IP address
	Operation  string      // as in metrics
	Part       string      // "" if the request names none
}

// AccessDenied is the error of Options.Access about a request that may not go on. Its text is for the counterparty.
type AccessDenied struct{ Reason string }

func (e *AccessDenied) Error() string { return e.Reason }

// admit asks whether the request may do in its flow what it is about to.
func (h *Handler) admit(x *exchange, s *stay) error {
	if h.Access == nil {
		return nil
	}
	header := x.r.Header.Clone()
	header.Del("Authorization")
	err := h.Access(s.ctx, AccessRequest{
		Flow: cmp.Or(s.joined.Of, s.flow), Method: x.r.Method, Path: h.escapedPath(x.r), Query: x.r.URL.RawQuery, Header: header,
		RemoteAddr: hostOf(x.r.RemoteAddr), Operation: string(x.route.operation), Part: x.route.name,
	})
	var denied *AccessDenied
	if errors.As(err, &denied) {
		return accessDenied.because("%s", denied.Reason)
	}
	return err
}

// hostOf is the IP address of a peer, without its port.
func hostOf(peer string) string {
	if p, err := netip.ParseAddrPort(peer); err == nil {
		return p.Addr().Unmap().String()
	}
	if host, _, err := net.SplitHostPort(peer); err == nil {
		return host
	}
	return peer
}

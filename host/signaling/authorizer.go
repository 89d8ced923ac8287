package signaling

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"
)

// authorization is the header field for credentials.
const authorization = "Authorization"

// authorizer adds to requests what proves to their receiver who sends them. It is safe for concurrent use.
type authorizer interface {
	// authorize adds it to a request that has nothing of the kind.
	authorize(ctx context.Context, r *http.Request) error
	// refused is told that the receiver of r did not accept it, and reports whether there is something else to try at once.
	refused(r *http.Request) bool
}

// newAuthorizer returns the authorizer for requests to a control plane that passed check.
func newAuthorizer(cp ControlPlane, client *http.Client, clock func() time.Time) authorizer {
	o := cp.Outbound
	switch o.Type {
	case AuthClientCredentials:
		c := &clientCredentials{Outbound: o, http: client, clock: clock}
		return &tokenSource{fetch: c.fetch, singleUse: o.SingleUse, clock: clock}
	case AuthTokenExchange:
		o.Resource, o.Audience = cmp.Or(o.Resource, cp.Endpoint), cmp.Or(o.Audience, cp.ID)
		x := &tokenExchange{Outbound: o, http: client, clock: clock}
		return &tokenSource{fetch: x.fetch, singleUse: o.SingleUse, clock: clock}
	case AuthStatic:
		return newStaticHeaders(map[string]string{cmp.Or(o.Header, authorization): o.Secret}, true)
	default:
		return staticHeaders{}
	}
}

// staticHeaders are header fields that are always the same.
type staticHeaders http.Header

// newStaticHeaders takes what checkHeader passed. bearer says that an Authorization is a bearer token and not a whole value.
func newStaticHeaders(fields map[string]string, bearer bool) staticHeaders {
	h := http.Header{}
	for name, value := range fields {
		if bearer && strings.EqualFold(name, authorization) {
			value = "Bearer " + value
		}
		h.Set(name, value)
	}
	return staticHeaders(h)
}

func (s staticHeaders) authorize(_ context.Context, r *http.Request) error {
	for name, values := range s {
		r.Header[name] = values
	}
	return nil
}

func (staticHeaders) refused(*http.Request) bool { return false }

// bearer returns the token of a request with exactly one bearer token.
func bearer(h http.Header) (string, bool) {
	values := h.Values(authorization)
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

package publicapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/towpath-dataplane/towpath/host/token"
)

// Verifier says whether a token is good now. A *token.Authority is one. The errors are those of token.Authority.Verify.
type Verifier interface {
	Verify(ctx context.Context, raw string) (token.Claims, error)
}

// challenge is what a 401 asks for (RFC 6750, section 3).
const challenge = `Bearer realm="towpath"`

// authorize verifies the token of the request and that it is for the request's flow and operation. The errors do not depend on
// whether there is such a flow. With that of a token of the flow which was revoked comes what the token says.
func (h *Handler) authorize(x *exchange) (token.Claims, error) {
	raw := bearer(x.r.Header)
	if raw == "" {
		return token.Claims{}, invalidToken.because("the request has no token").with("WWW-Authenticate", challenge)
	}
	claims, err := h.Tokens.Verify(x.r.Context(), raw)
	if err != nil {
		return claims, tokenProblem(err)
	}
	access := token.Write
	switch {
	case x.route.operation.reads():
		access = token.Read
	case x.route.operation.responds():
		access = token.Respond
	}
	switch {
	case claims.Flow != tokenFlow(x.route.key):
		return token.Claims{}, foreignToken.because("the token is for another data flow")
	case claims.Access != access:
		return token.Claims{}, foreignToken.because("the token is not for access to %s", access)
	}
	return claims, nil
}

// bearer returns the token of a request: the credentials of the scheme Bearer, or all of the field if it names no scheme, as EDC's
// clients send it. It returns "" if there is none, or more than one field.
func bearer(h http.Header) string {
	fields := h.Values("Authorization")
	if len(fields) != 1 {
		return ""
	}
	scheme, rest, found := strings.Cut(strings.TrimSpace(fields[0]), " ")
	switch {
	case !found:
		return scheme
	case strings.EqualFold(scheme, "Bearer"):
		return strings.TrimSpace(rest)
	}
	return ""
}

// tokenProblem answers a token that was not good.
func tokenProblem(err error) error {
	var why string
	switch {
	case errors.Is(err, token.ErrRevoked):
		return revokedToken.because("the data flow has stopped, or has issued a newer token")
	case errors.Is(err, token.ErrExpired):
		why = "the token has expired"
	case errors.Is(err, token.ErrMalformed):
		why = "the token is malformed"
	case errors.Is(err, token.ErrSignature), errors.Is(err, token.ErrUnknown):
		why = "the token was not issued here"
	default:
		return err
	}
	return invalidToken.because("%s", why).
		with("WWW-Authenticate", challenge+`, error="invalid_token", error_description="`+why+`"`)
}

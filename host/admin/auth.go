package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// authorized lets requests pass that bring the token, and those about health. A web page that has a browser ask is no operator.
func (h handler) authorized(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(h.Token))
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		health := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		if h.Token != "" && !health {
			given, ok := bearer(r.Header)
			got := sha256.Sum256([]byte(given))
			switch {
			case !ok:
				newProblem(http.StatusUnauthorized, "the admin token is needed").with("WWW-Authenticate", challenge).write(w)
				return
			case subtle.ConstantTimeCompare(got[:], want[:]) != 1:
				newProblem(http.StatusUnauthorized, "this is not the admin token").
					with("WWW-Authenticate", challenge+`, error="invalid_token"`).write(w)
				return
			}
		}
		if err := crossOrigin.Check(r); err != nil {
			newProblem(http.StatusForbidden, "a browser sends this for the page of another site").write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

const challenge = `Bearer realm="towpath admin"`

// bearer returns the bearer token of a request.
func bearer(h http.Header) (string, bool) {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// private is for what changes something or gives a secret away. Without a token, it is refused to whoever reached the host by a name
// that could have been made to point at it: a browser takes such a host for that of the page it shows.
func (h handler) private(next http.HandlerFunc) http.HandlerFunc {
	if h.Token != "" {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if !ownName(r.Host) {
			newProblem(http.StatusForbidden, "without an admin token this is answered only at the host's IP address, localhost, or a name without dots").write(w)
			return
		}
		next(w, r)
	}
}

// ownName reports whether a Host field is an address, or a name that only the local network knows.
func ownName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	return net.ParseIP(host) != nil || !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost")
}

package httpfield

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// ofConnection are fields about the connection that they came on, rather than the message.
var ofConnection = []string{"Connection", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// notForwarded are fields of a request that whoever hands it on sets anew, or that are for nobody but him: credentials.
var notForwarded = []string{"Authorization", "Content-Length", "Cookie", "Expect", "Host"}

// EndToEnd reports whether a field of h can be handed on: it is not about the connection, and Connection does not name it. The name is in
// its canonical form.
func EndToEnd(h http.Header, name string) bool {
	if slices.Contains(ofConnection, name) {
		return false
	}
	for _, value := range h["Connection"] {
		for named := range strings.SplitSeq(value, ",") {
			if textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(named)) == name {
				return false
			}
		}
	}
	return true
}

// Forwarded reports whether a field of a request can be handed on to another server at all. The name is in its canonical form.
func Forwarded(name string) bool {
	return !slices.Contains(notForwarded, name) && !slices.Contains(ofConnection, name)
}

// CheckForwarded says why the fields that a pattern stands for cannot be handed on. A '*' at its end stands for any; those that cannot be
// handed on are never meant by it.
func CheckForwarded(pattern string) error {
	name, _ := strings.CutSuffix(pattern, "*")
	switch {
	case !isToken(name):
		return fmt.Errorf("%q is not the name of a header field", pattern)
	case !Forwarded(textproto.CanonicalMIMEHeaderKey(pattern)):
		return fmt.Errorf("%s is never handed on", textproto.CanonicalMIMEHeaderKey(pattern))
	}
	return nil
}

// Matches reports whether one of the patterns stands for a name in its canonical form.
func Matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		p, any := strings.CutSuffix(textproto.CanonicalMIMEHeaderKey(p), "*")
		return p == name || any && strings.HasPrefix(name, p)
	})
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}

package identity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims are what a token says.
type Claims struct {
	Issuer             string         // iss
	Subject            string         // sub
	Audience           []string       // aud
	ID                 string         // jti
	Expires            time.Time      // exp; zero if there is none
	IssuedAt           time.Time      // iat; zero if there is none
	Scope              string         // scope, separated by blanks
	ClientID           string         // client_id
	ParticipantContext string         // participant_context
	Extra              map[string]any // all other claims, as encoding/json decodes them
	KeyID              string         // kid, from the header

	all jwt.MapClaims
}

// readClaims returns the claims of a token. The error wraps ErrMalformed and names the claim that has the wrong type.
func readClaims(t unverified) (*Claims, error) {
	r := reader{claims: t.Claims.(jwt.MapClaims)}
	c := &Claims{
		Issuer: r.text("iss"), Subject: r.text("sub"), Audience: r.list("aud"), ID: r.text("jti"),
		Expires: r.time("exp"), IssuedAt: r.time("iat"),
		Scope: strings.Join(r.list("scope"), " "), ClientID: r.text("client_id"), ParticipantContext: r.text("participant_context"),
		Extra: maps.Clone(r.claims), all: r.claims,
	}
	r.time("nbf")
	for _, name := range []string{"iss", "sub", "aud", "jti", "exp", "iat", "scope", "client_id", "participant_context"} {
		delete(c.Extra, name)
	}
	if kid, ok := t.Header["kid"]; ok {
		if c.KeyID, ok = kid.(string); !ok {
			r.fail("kid")
		}
	}
	if r.wrong != "" {
		return nil, fmt.Errorf("%w: %s has the wrong type", ErrMalformed, r.wrong)
	}
	return c, nil
}

// reader takes claims apart. A claim that is null is not there.
type reader struct {
	claims map[string]any
	wrong  string // the first claim of a wrong type
}

func (r *reader) fail(name string) {
	if r.wrong == "" {
		r.wrong = name
	}
}

func (r *reader) text(name string) string {
	v := r.claims[name]
	s, ok := v.(string)
	if !ok && v != nil {
		r.fail(name)
	}
	return s
}

// list reads one string or a list of them.
func (r *reader) list(name string) []string {
	items, ok := r.claims[name].([]any)
	if !ok {
		if s := r.text(name); s != "" {
			return []string{s}
		}
		return nil
	}
	list := make([]string, len(items))
	for i, item := range items {
		if list[i], ok = item.(string); !ok {
			r.fail(name)
		}
	}
	return list
}

// latest is the end of the year 9999.
const latest = 253402300799

func (r *reader) time(name string) time.Time {
	v := r.claims[name]
	if v == nil {
		return time.Time{}
	}
	seconds, ok := v.(float64)
	if !ok || seconds < 0 || seconds > latest {
		r.fail(name)
		return time.Time{}
	}
	return time.UnixMilli(int64(seconds * 1000)).UTC()
}

// check returns what is wrong with the claims of a token that is signed.
func (r Rules) check(c *Claims) error {
	now := orNow(r.Clock)()
	for _, name := range r.Require {
		if isEmpty(c.all[name]) {
			return missing(name)
		}
	}
	notBefore := (&reader{claims: c.all}).time("nbf")
	switch {
	case r.Issuer != "" && c.Issuer != r.Issuer:
		return unacceptable("iss")
	case r.Subject != "" && c.Subject != r.Subject:
		return unacceptable("sub")
	case len(r.Audiences) > 0 && !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(r.Audiences, a) }):
		return unacceptable("aud")
	case c.Expires.IsZero() && !r.ExpiryOptional:
		return missing("exp")
	case !c.Expires.IsZero() && !now.Before(c.Expires.Add(r.Leeway)):
		return ErrExpired
	case now.Add(r.Leeway).Before(notBefore):
		return fmt.Errorf("%w: nbf is in the future", ErrClaims)
	case now.Add(r.Leeway).Before(c.IssuedAt):
		return fmt.Errorf("%w: iat is in the future", ErrClaims)
	case r.MaxAge > 0 && c.IssuedAt.IsZero():
		return missing("iat")
	case r.MaxAge > 0 && now.Sub(c.IssuedAt) > r.MaxAge+r.Leeway:
		return fmt.Errorf("%w: iat is too long ago", ErrExpired)
	case r.Replay == nil:
		return nil
	}
	return r.useOnce(c)
}

func (r Rules) useOnce(c *Claims) error {
	end := c.Expires
	if aged := c.IssuedAt.Add(r.MaxAge); r.MaxAge > 0 && (end.IsZero() || aged.Before(end)) {
		end = aged
	}
	switch {
	case c.ID == "":
		return missing("jti")
	case end.IsZero():
		return missing("exp")
	}
	return r.Replay.use(c.Issuer, c.ID, end.Add(r.Leeway))
}

func isEmpty(claim any) bool {
	switch v := claim.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func missing(claim string) error { return fmt.Errorf("%w: %s is missing", ErrClaims, claim) }

func unacceptable(claim string) error {
	return fmt.Errorf("%w: %s is not the one that is expected", ErrClaims, claim)
}

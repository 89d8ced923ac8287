package signaling

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/identity"
)

// leeway is how far the clocks of two machines may be apart.
const leeway = time.Minute

// inbound verifies that a request comes from one control plane. It is a secret for AuthStatic and otherwise the rules for its tokens.
type inbound struct {
	header string // of the secret
	secret [sha256.Size]byte

	subject   string // what a token calls the control plane
	exchange  bool   // the token is from an exchange
	context   string // the participant context
	byContext bool   // which is enough to name the control plane
	scope     string
	rules     identity.Rules
	keys      identity.Keys // nil if the signature does not matter
	close     func()
}

// newInbound returns the verifier for a control plane that passed check, and nil if it has none.
func newInbound(cp ControlPlane, dataPlane string, client *http.Client, clock func() time.Time) (*inbound, error) {
	in := cp.Inbound
	switch in.Type {
	case "":
		return nil, nil
	case AuthStatic:
		header := http.CanonicalHeaderKey(cmp.Or(in.Header, authorization))
		return &inbound{header: header, secret: sha256.Sum256([]byte(in.Secret)), close: func() {}}, nil
	}
	v := &inbound{
		subject:   cmp.Or(in.Subject, cp.ID),
		exchange:  in.Type == AuthTokenExchange,
		context:   cp.Context,
		byContext: in.Subject == "",
		scope:     in.RequiredScope,
		rules: identity.Rules{
			Issuer:        in.Issuer,
			Audiences:     in.Audiences,
			Require:       []string{"sub", "aud", "iat"},
			Leeway:        leeway,
			SkipSignature: in.InsecureSkipSignature,
			Clock:         clock,
		},
		close: func() {},
	}
	if len(v.rules.Audiences) == 0 {
		v.rules.Audiences = []string{dataPlane}
	}
	if !v.exchange {
		v.rules.Subject = v.subject
	}
	if in.SingleUse {
		v.rules.Replay = identity.NewReplay(maxReplay, clock)
	}
	return v, v.setKeys(in, client, clock)
}

// maxReplay is how many tokens of a control plane are remembered that are good for one use.
const maxReplay = 100_000

func (v *inbound) setKeys(in Inbound, client *http.Client, clock func() time.Time) error {
	switch {
	case in.InsecureSkipSignature:
	case in.JWKS != nil:
		keys, err := identity.ParseJWKS(in.JWKS)
		if err != nil {
			return fmt.Errorf("keys to verify tokens with: %w", err)
		}
		v.keys = keys
	default:
		keys := identity.NewRemoteKeys(in.JWKSURI, identity.RemoteOptions{HTTP: client, Clock: clock})
		v.keys, v.close = keys, keys.Close
	}
	return nil
}

// static reports whether a secret is what it verifies.
func (v *inbound) static() bool { return v.header != "" }

// hasSecret compares the secret in a request. It takes as long whatever the request has.
func (v *inbound) hasSecret(h http.Header) bool {
	given, ok := "", false
	if v.header == authorization {
		given, ok = bearer(h)
	} else if values := h.Values(v.header); len(values) == 1 {
		given, ok = values[0], true
	}
	return sameSecret(sha256.Sum256([]byte(given)), v.secret) && ok
}

func sameSecret(a, b [sha256.Size]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// naming is how a token names a control plane.
type naming int

const (
	notNamed       naming = iota
	namedElsewhere        // by itself, but in another participant context
	namedByContext
	namedByItself
)

// named says how a token names the control plane, whether or not the token can be trusted.
func (v *inbound) named(c *identity.Claims) naming {
	switch {
	case v.rules.Issuer != "" && c.Issuer != v.rules.Issuer:
		return notNamed
	case !v.exchange && c.Subject == v.subject && c.ParticipantContext != "" && c.ParticipantContext != v.context:
		return namedElsewhere
	case !v.exchange && c.Subject == v.subject:
		return namedByItself
	case !v.exchange, c.ParticipantContext != "" && c.ParticipantContext != v.context:
		return notNamed
	case cmp.Or(c.ClientID, c.Subject) == v.subject:
		return namedByItself
	case v.byContext && c.ParticipantContext != "":
		return namedByContext
	default:
		return notNamed
	}
}

// verify checks a token that names the control plane.
func (v *inbound) verify(ctx context.Context, token string) error {
	claims, err := identity.Verify(ctx, token, v.keys, v.rules)
	if err != nil {
		return err
	}
	if v.scope != "" && !slices.Contains(strings.Fields(claims.Scope), v.scope) {
		return fmt.Errorf("%w: scope", identity.ErrClaims)
	}
	return nil
}

package token

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxSize is the most bytes that a token may have. Those we issue have less than a quarter.
	maxSize = 8 << 10
	// keepExpired is how long the record of an expired token is kept.
	keepExpired = 24 * time.Hour
)

// Config is what an Authority needs.
type Config struct {
	Issuer   string        // iss: the data plane's id
	Audience string        // aud: the data plane's public URL, or its id
	Lifetime time.Duration // at least a second
	Leeway   time.Duration // for clocks that disagree, after Lifetime
	// RefreshLifetime is how long a refresh token is good, each from its own beginning. 0: no refresh tokens are issued, whatever a
	// grant says. Otherwise at least Lifetime.
	RefreshLifetime time.Duration
	// Grace is how long the previous refresh token can be redeemed again after a renewal, unless the new access token is used before.
	Grace time.Duration
	// Key signs access tokens. Refresh tokens are made with a secret that is derived from it.
	Key *Key
	// Store is changed by nobody else while the Authority is in use.
	Store Store
	Clock func() time.Time // nil: time.Now
}

// Authority issues, renews, verifies and revokes tokens. All methods may be called concurrently.
//
// It remembers tokens that were found good, so that a request costs neither a signature check nor a read of the store. Issue, Renew
// and Revoke forget those of their flow before they return.
type Authority struct {
	cfg    Config
	parser *jwt.Parser
	signed *jwt.Parser // looks at nothing but the signature
	live   *live
}

// New returns an Authority, or says what is wrong with the configuration.
func New(cfg Config) (*Authority, error) {
	switch {
	case cfg.Issuer == "" || cfg.Audience == "":
		return nil, errors.New("tokens need an issuer and an audience")
	case cfg.Lifetime < time.Second:
		return nil, fmt.Errorf("lifetime of tokens is %v, want at least 1s", cfg.Lifetime)
	case cfg.Leeway < 0:
		return nil, fmt.Errorf("leeway for tokens is %v, want at least 0s", cfg.Leeway)
	case cfg.RefreshLifetime < 0, cfg.RefreshLifetime > 0 && cfg.RefreshLifetime < cfg.Lifetime:
		return nil, fmt.Errorf("lifetime of refresh tokens is %v, want at least that of access tokens, %v", cfg.RefreshLifetime, cfg.Lifetime)
	case cfg.Grace < 0:
		return nil, fmt.Errorf("grace for renewals is %v, want at least 0s", cfg.Grace)
	case cfg.Key == nil || cfg.Store == nil:
		return nil, errors.New("tokens need a key and a store")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	methods := []string{jwt.SigningMethodES256.Alg()}
	parser := jwt.NewParser(
		jwt.WithValidMethods(methods), jwt.WithStrictDecoding(),
		jwt.WithIssuer(cfg.Issuer), jwt.WithAudience(cfg.Audience),
		jwt.WithLeeway(cfg.Leeway), jwt.WithTimeFunc(cfg.Clock),
	)
	signed := jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	return &Authority{cfg: cfg, parser: parser, signed: signed, live: newLive(maxLive)}, nil
}

// Issue returns a new token. Tokens that were issued before for the flow, with the same access, stop working.
func (a *Authority) Issue(ctx context.Context, g Grant) (Issued, error) {
	if g.Flow.ID == "" || g.Subject == "" || !g.Access.known() {
		return Issued{}, fmt.Errorf("issue token: grant %+v is incomplete", g)
	}
	f := Family{Current: Record{Flow: g.Flow, Access: g.Access}}
	if g.Renewable && a.cfg.RefreshLifetime > 0 {
		f.ID = newID()
	}
	lifetime := g.Lifetime
	if lifetime == 0 || lifetime == Forever && f.ID != "" {
		lifetime = a.cfg.Lifetime
	}
	a.begin(&f, lifetime)
	f.Started = f.Issued
	issued, err := a.issued(f, g.Subject)
	if err != nil {
		return Issued{}, fmt.Errorf("issue token: %w", err)
	}
	// Also after an error the store may have changed.
	defer a.live.forget(g.Flow)
	if err := a.cfg.Store.ReplaceTokens(ctx, f); err != nil {
		return Issued{}, fmt.Errorf("issue token: %w", err)
	}
	return issued, nil
}

// begin fills in what a generation that is issued now has of its own.
func (a *Authority) begin(f *Family, lifetime time.Duration) {
	f.Issued = a.cfg.Clock().UTC().Truncate(time.Second)
	f.Current.ID, f.Current.Expires = newID(), Never
	if lifetime != Forever {
		f.Current.Expires = f.Issued.Add(lifetime).Truncate(time.Second)
	}
	if f.ID != "" {
		f.Expires = f.Issued.Add(max(a.cfg.RefreshLifetime, lifetime))
	}
}

// issued returns the tokens of a family's generation: the same, to the byte, whenever it is called.
func (a *Authority) issued(f Family, subject string) (issued Issued, err error) {
	issued.Claims = Claims{
		Grant: Grant{Flow: f.Current.Flow, Subject: subject, Access: f.Current.Access},
		ID:    f.Current.ID, Issued: f.Issued, Expires: f.Current.Expires,
	}
	if f.ID != "" {
		issued.Refresh, issued.RefreshExpires = a.cfg.Key.refreshToken(f.ID, f.Generation, subject), f.Expires
	}
	issued.Access, err = a.sign(issued.Claims)
	return issued, err
}

// Verify returns what a token says if it is good now. The error wraps ErrMalformed, ErrSignature, ErrExpired, ErrRevoked or
// ErrUnknown; any other is a failure of ours. With ErrRevoked comes what the token says, which is ours. The first time that a renewed
// token is found good ends the time of the refresh token that it was renewed with.
func (a *Authority) Verify(ctx context.Context, raw string) (Claims, error) {
	if len(raw) > maxSize {
		return Claims{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(raw))
	}
	digest := sum(raw)
	c, epoch, ok := a.live.get(digest)
	if ok {
		if !a.cfg.Clock().Before(c.Expires.Add(a.cfg.Leeway)) {
			return Claims{}, ErrExpired
		}
		return c, nil
	}
	c, err := a.parse(raw)
	if err != nil {
		return Claims{}, err
	}
	record, err := a.cfg.Store.Token(ctx, c.ID)
	if err != nil {
		return Claims{}, fmt.Errorf("verify token: %w", err)
	}
	if record.Revoked {
		return c, ErrRevoked
	}
	if record.Unused {
		if err := a.cfg.Store.UseToken(ctx, c.Flow, c.ID); err != nil {
			return Claims{}, fmt.Errorf("verify token: %w", err)
		}
	}
	a.live.add(digest, c, epoch)
	return c, nil
}

// sum is the digest of a token. Most fit into what needs no memory of its own.
func sum(raw string) digest {
	var space [2 << 10]byte
	return sha256.Sum256(append(space[:0], raw...))
}

// Revoke ends all tokens of a flow: a Verify or Renew that begins after it returned refuses them. It is idempotent.
func (a *Authority) Revoke(ctx context.Context, f Flow) error {
	defer a.live.forget(f)
	if err := a.cfg.Store.RevokeTokens(ctx, f); err != nil {
		return fmt.Errorf("revoke tokens: %w", err)
	}
	return nil
}

// Purge removes what is kept of tokens that expired long ago. The owner calls it now and then.
func (a *Authority) Purge(ctx context.Context) error {
	now := a.cfg.Clock()
	a.live.purge(now.Add(-a.cfg.Leeway))
	if err := a.cfg.Store.PurgeTokens(ctx, now.Add(-a.cfg.Leeway-keepExpired)); err != nil {
		return fmt.Errorf("purge tokens: %w", err)
	}
	return nil
}

// JWKS returns the public key as a JSON Web Key Set (RFC 7517).
func (a *Authority) JWKS() []byte { return a.cfg.Key.jwks() }

// jwtClaims are Claims as they are written in a token.
type jwtClaims struct {
	jwt.RegisteredClaims
	Context string `json:"participant_context"`
	Flow    string `json:"flow"`
	Access  Access `json:"access"`
}

func (a *Authority) sign(c Claims) (string, error) {
	var expires *jwt.NumericDate // no exp
	if c.Expires.Before(Never) {
		expires = jwt.NewNumericDate(c.Expires)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwtClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: a.cfg.Issuer, Subject: c.Subject, Audience: jwt.ClaimStrings{a.cfg.Audience},
			ID: c.ID, IssuedAt: jwt.NewNumericDate(c.Issued), ExpiresAt: expires,
		},
		Context: c.Flow.Context, Flow: c.Flow.ID, Access: c.Access,
	})
	t.Header["kid"] = a.cfg.Key.ID
	content, err := t.SigningString()
	if err != nil {
		return "", err
	}
	signature, err := a.cfg.Key.sign(content)
	if err != nil {
		return "", err
	}
	return content + "." + base64url(signature), nil
}

func (a *Authority) parse(raw string) (Claims, error) { return a.parseWith(a.parser, raw) }

func (a *Authority) parseWith(p *jwt.Parser, raw string) (Claims, error) {
	var w jwtClaims
	if _, err := p.ParseWithClaims(raw, &w, a.publicKey); err != nil {
		return Claims{}, reason(err)
	}
	if w.ExpiresAt == nil {
		w.ExpiresAt = &jwt.NumericDate{Time: Never}
	}
	if w.ID == "" || w.Flow == "" || w.IssuedAt == nil || !w.Access.known() {
		return Claims{}, fmt.Errorf("%w: a claim is missing", ErrMalformed)
	}
	return Claims{
		Grant: Grant{Flow: Flow{Context: w.Context, ID: w.Flow}, Subject: w.Subject, Access: w.Access},
		ID:    w.ID, Issued: w.IssuedAt.UTC(), Expires: w.ExpiresAt.UTC(),
	}, nil
}

func (a *Authority) publicKey(t *jwt.Token) (any, error) {
	if t.Header["kid"] != a.cfg.Key.ID {
		return nil, jwt.ErrTokenSignatureInvalid
	}
	return &a.cfg.Key.private.PublicKey, nil
}

// reason turns an error of the parser into one of ours. What the token contains does not get into the error. Foreign comes before
// expired: only of our own tokens do we say that they have expired.
func reason(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return ErrMalformed
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable),
		errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenInvalidAudience):
		return ErrSignature
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrExpired
	}
	return ErrMalformed
}

func newID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}

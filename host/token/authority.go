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
	Key      *Key
	// Store is changed by nobody else while the Authority is in use.
	Store Store
	Clock func() time.Time // nil: time.Now
}

// Authority issues, verifies and revokes tokens. All methods may be called concurrently.
//
// It remembers tokens that were found good, so that a request costs neither a signature check nor a read of the store. Issue and
// Revoke forget those of their flow before they return.
type Authority struct {
	cfg    Config
	parser *jwt.Parser
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
	case cfg.Key == nil || cfg.Store == nil:
		return nil, errors.New("tokens need a key and a store")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithIssuer(cfg.Issuer), jwt.WithAudience(cfg.Audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(cfg.Leeway), jwt.WithTimeFunc(cfg.Clock),
	)
	return &Authority{cfg: cfg, parser: parser, live: newLive(maxLive)}, nil
}

// Issue returns a new token. Tokens that were issued before for the flow stop working.
func (a *Authority) Issue(ctx context.Context, g Grant) (raw string, c Claims, err error) {
	if g.Flow.ID == "" || g.Subject == "" || g.Access != Read && g.Access != Write {
		return "", Claims{}, fmt.Errorf("issue token: grant %+v is incomplete", g)
	}
	now := a.cfg.Clock().UTC().Truncate(time.Second)
	c = Claims{Grant: g, ID: newID(), Issued: now, Expires: now.Add(a.cfg.Lifetime).Truncate(time.Second)}
	raw, err = a.sign(c)
	if err != nil {
		return "", Claims{}, fmt.Errorf("issue token: %w", err)
	}
	// Also after an error the store may have changed.
	defer a.live.forget(g.Flow)
	if err := a.cfg.Store.ReplaceTokens(ctx, Record{ID: c.ID, Flow: g.Flow, Access: g.Access, Expires: c.Expires}); err != nil {
		return "", Claims{}, fmt.Errorf("issue token: %w", err)
	}
	return raw, c, nil
}

// Verify returns what a token says if it is good now. The error wraps ErrMalformed, ErrSignature, ErrExpired, ErrRevoked or
// ErrUnknown; any other is a failure of ours.
func (a *Authority) Verify(ctx context.Context, raw string) (Claims, error) {
	if len(raw) > maxSize {
		return Claims{}, fmt.Errorf("%w: %d bytes", ErrMalformed, len(raw))
	}
	digest := sha256.Sum256([]byte(raw))
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
		return Claims{}, ErrRevoked
	}
	a.live.add(digest, c, epoch)
	return c, nil
}

// Revoke ends all tokens of a flow: a Verify that begins after it returned refuses them. It is idempotent.
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
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwtClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: a.cfg.Issuer, Subject: c.Subject, Audience: jwt.ClaimStrings{a.cfg.Audience},
			ID: c.ID, IssuedAt: jwt.NewNumericDate(c.Issued), ExpiresAt: jwt.NewNumericDate(c.Expires),
		},
		Context: c.Flow.Context, Flow: c.Flow.ID, Access: c.Access,
	})
	t.Header["kid"] = a.cfg.Key.ID
	return t.SignedString(a.cfg.Key.private)
}

func (a *Authority) parse(raw string) (Claims, error) {
	var w jwtClaims
	if _, err := a.parser.ParseWithClaims(raw, &w, a.publicKey); err != nil {
		return Claims{}, reason(err)
	}
	if w.ID == "" || w.Flow == "" || w.IssuedAt == nil || w.Access != Read && w.Access != Write {
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

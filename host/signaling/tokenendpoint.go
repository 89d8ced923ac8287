package signaling

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/towpath-dataplane/towpath/host/identity"
)

// clientCredentials gets tokens by the client credentials grant (RFC 6749, section 4.4).
type clientCredentials struct {
	Outbound
	http  *http.Client
	clock func() time.Time
	post  atomic.Bool // the token endpoint takes the secret in the form only
}

func (c *clientCredentials) fetch(ctx context.Context) (grant, error) {
	inForm := c.ClientAuth == ClientAuthPost || c.post.Load()
	g, err := c.request(ctx, inForm)
	var refused *oauthError
	if c.ClientAuth != "" || inForm || !errors.As(err, &refused) || !refused.ofClient() {
		return g, err
	}
	other, otherErr := c.request(ctx, true)
	if otherErr != nil {
		return grant{}, err
	}
	c.post.Store(true)
	return other, nil
}

func (c *clientCredentials) request(ctx context.Context, inForm bool) (grant, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	setForm(form, "scope", c.Scope)
	setForm(form, "audience", c.Audience)
	setForm(form, "resource", c.Resource)
	header := http.Header{}
	if inForm {
		form.Set("client_id", c.ClientID)
		form.Set("client_secret", c.ClientSecret)
	} else {
		pair := url.QueryEscape(c.ClientID) + ":" + url.QueryEscape(c.ClientSecret)
		header.Set(authorization, "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	}
	return requestToken(ctx, c.http, c.clock, c.TokenEndpoint, form, header, c.ClientSecret)
}

// tokenExchange gets tokens for this workload's own credential (RFC 8693), and is no client of the authorization server.
type tokenExchange struct {
	Outbound
	http  *http.Client
	clock func() time.Time
}

// The identifiers of RFC 8693.
const (
	grantTokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	typeJWT            = "urn:ietf:params:oauth:token-type:jwt"
	typeAccessToken    = "urn:ietf:params:oauth:token-type:access_token"
)

func (x *tokenExchange) fetch(ctx context.Context) (grant, error) {
	subject, err := readSubjectToken(x.SubjectTokenFile)
	if err != nil {
		return grant{}, err
	}
	form := url.Values{
		"grant_type":           {grantTokenExchange},
		"subject_token":        {subject},
		"subject_token_type":   {typeJWT},
		"requested_token_type": {typeAccessToken},
		"resource":             {x.Resource},
		"audience":             {x.Audience},
	}
	setForm(form, "scope", x.Scope)
	return requestToken(ctx, x.http, x.clock, x.TokenExchangeEndpoint, form, http.Header{}, subject)
}

// readSubjectToken reads the credential anew each time, since whoever issues it replaces it before it expires.
func readSubjectToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("subject token: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxTokenAnswer+1))
	if err != nil {
		return "", fmt.Errorf("subject token: %w", err)
	}
	token := string(bytes.TrimSpace(raw))
	if len(raw) > maxTokenAnswer || !isToken(token) {
		return "", fmt.Errorf("subject token: %s has no token", path)
	}
	return token, nil
}

func setForm(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}

// maxTokenAnswer is the longest answer of a token endpoint, in bytes.
const maxTokenAnswer = 64 << 10

// requestToken makes one request of a token endpoint. secret is kept out of the error.
func requestToken(ctx context.Context, client *http.Client, clock func() time.Time, endpoint string, form url.Values, header http.Header,
	secret string) (grant, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return grant{}, errors.New("the token endpoint is not a URL")
	}
	host := r.URL.Scheme + "://" + r.URL.Host
	r.Header = header
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return grant{}, fmt.Errorf("token endpoint %s: %s", host, sendFailure(err, 0))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxTokenAnswer+1))
	switch {
	case err != nil:
		return grant{}, fmt.Errorf("token endpoint %s: %s", host, sendFailure(err, 0))
	case len(body) > maxTokenAnswer:
		return grant{}, fmt.Errorf("token endpoint %s: the answer is longer than %d bytes", host, maxTokenAnswer)
	case response.StatusCode != http.StatusOK:
		return grant{}, fmt.Errorf("token endpoint %s: %w", host, newOAuthError(response, body, secret, clock()))
	}
	g, err := decodeGrant(body, clock())
	if err != nil {
		return grant{}, fmt.Errorf("token endpoint %s: %w", host, err)
	}
	return g, nil
}

// oauthError is a refusal by a token endpoint (RFC 6749, section 5.2).
type oauthError struct {
	status int
	code   string // error, "" if there is none
	delay  delayError
}

func newOAuthError(response *http.Response, body []byte, secret string, now time.Time) *oauthError {
	e := &oauthError{status: response.StatusCode}
	e.delay = delayError{text: "answered " + statusText(response.StatusCode), after: askedDelay(response.Header, now)}
	if checkJSON(body) != nil {
		return e
	}
	f, err := parseFields("", body)
	if err != nil {
		return e
	}
	e.code = f.text("error")
	for _, text := range []string{e.code, f.text("error_description")} {
		for _, form := range append(credentials(response), secret, url.QueryEscape(secret)) {
			text = strings.ReplaceAll(text, form, "…")
		}
		if text != "" {
			e.delay.text += ": " + printable(text)
		}
	}
	return e
}

// ofClient reports whether it is the client that was not accepted, and not what it asked for. Servers that expect its id in the form
// call its absence an invalid request.
func (e *oauthError) ofClient() bool {
	return e.status == http.StatusUnauthorized || e.code == "invalid_client" ||
		e.status == http.StatusBadRequest && (e.code == "invalid_request" || e.code == "unauthorized_client")
}

func (e *oauthError) Error() string { return e.delay.text }

func (e *oauthError) Unwrap() error { return &e.delay }

const (
	// defaultLifetime is how long a token is used that does not say when it expires.
	defaultLifetime = 5 * time.Minute
	maxLifetime     = 30 * 24 * time.Hour
	// maxMargin is how long before its end a token is used no more. It is less for those that do not live long.
	maxMargin = 30 * time.Second
)

// decodeGrant reads the answer of a token endpoint to a request at about now. The token's own exp goes before expires_in, which is only
// advice.
func decodeGrant(body []byte, now time.Time) (grant, error) {
	if err := checkJSON(body); err != nil {
		return grant{}, fmt.Errorf("the answer cannot be read: %w", err)
	}
	f, err := parseFields("", body)
	if err != nil {
		return grant{}, fmt.Errorf("the answer cannot be read: %w", err)
	}
	token, kind := f.required("access_token"), f.text("token_type")
	lifetime := f.seconds("expires_in")
	switch {
	case f.err != nil:
		return grant{}, fmt.Errorf("the answer cannot be used: %w", f.err)
	case kind != "" && !strings.EqualFold(kind, "bearer"):
		return grant{}, fmt.Errorf("the answer's token_type %.50q is not supported", kind)
	case !isToken(token):
		return grant{}, errors.New("the answer's access_token has characters that no token has")
	}
	if claims, err := identity.Peek(token); err == nil && !claims.Expires.IsZero() {
		lifetime = claims.Expires.Sub(now)
	}
	lifetime = min(lifetime, maxLifetime)
	return grant{token: token, until: now.Add(lifetime - min(maxMargin, lifetime/10))}, nil
}

// seconds reads a number of seconds, which some write as a string. Absent, it is defaultLifetime.
func (f *fields) seconds(name string) time.Duration {
	if !f.has(name) {
		return defaultLifetime
	}
	n, err := strconv.ParseFloat(f.scalar(name), 64)
	if err != nil || math.IsNaN(n) || n < 0 {
		f.fail(name, "is not a number of seconds")
		return 0
	}
	return time.Duration(min(n, maxLifetime.Seconds()) * float64(time.Second))
}

// isToken reports whether a text can be sent as a bearer token.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

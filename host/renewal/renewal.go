// Package renewal is the client of the Token Renewal profile: it gets new tokens for an address that a counterparty issued, and says
// by a signed token that it is the participant whom the address was issued to.
//
// It does not know when a token is to be renewed, nor that two renewals of one flow must not run at once: flow.Engine does.
package renewal

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// timeout bounds a renewal.
	timeout = 30 * time.Second
	// proofLife is how long the token is good by which we say who we are.
	proofLife = time.Minute
	// clockSkew is how far the counterparty's clock may be behind ours: some know no leeway.
	clockSkew = 10 * time.Second
)

// Options are what a Client stands on.
type Options struct {
	HTTP *http.Client // required; decides which addresses may be reached. Redirects are not followed, whatever it says
	// Signer returns the key of a participant context, nil if it has none. Required.
	Signer func(participantContext string) *identity.Signer
	// AllowHTTP says whether a host (with its port if it has one) may be asked over plain HTTP. nil: never.
	AllowHTTP func(host string) bool
	Clock     func() time.Time // nil: time.Now
	Logger    *slog.Logger     // nil: none
}

// Client renews tokens. It is safe for concurrent use.
type Client struct {
	options Options
	http    http.Client
}

var _ flow.Renewer = (*Client)(nil)

// New returns a Client.
func New(o Options) *Client {
	if o.AllowHTTP == nil {
		o.AllowHTTP = func(string) bool { return false }
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	client := *o.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{options: o, http: client}
}

// Renewable reports whether the address has what a renewal needs: an access token, a refresh token, and an endpoint to send it to.
// Whether we have a key to do it with is no matter of the address.
func (c *Client) Renewable(_ *flow.Flow, a sdk.DataAddress) (expires time.Duration, ok bool) {
	if a.Get(authorization) == "" || a.Get(refreshToken) == "" || refreshAddress(a) == "" {
		return 0, false
	}
	return seconds(a.Get(expiresIn)), true
}

// Renew returns the address with its new tokens, under the names that the old ones have.
func (c *Client) Renew(ctx context.Context, f *flow.Flow, a sdk.DataAddress) (sdk.DataAddress, error) {
	if _, ok := c.Renewable(f, a); !ok {
		return sdk.DataAddress{}, sdk.Errorf(sdk.Denied, "the address has no token that could be renewed")
	}
	endpoint, err := c.checkEndpoint(refreshAddress(a))
	if err != nil {
		return sdk.DataAddress{}, err
	}
	proof, err := c.proof(f, a.Get(authorization))
	if err != nil {
		return sdk.DataAddress{}, err
	}
	t, err := c.ask(ctx, endpoint, a.Get(refreshToken), proof)
	if err != nil {
		return sdk.DataAddress{}, err
	}
	c.options.Logger.DebugContext(ctx, "renewed the token of a data flow", "flow", f.Key.String(), "host", endpoint.Host)
	return t.writtenTo(a), nil
}

// checkEndpoint reads the address of the counterparty's authorization server.
func (c *Client) checkEndpoint(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return nil, sdk.Errorf(sdk.Denied, "the refreshEndpoint is not an absolute https URL")
	case u.Scheme == "http" && !c.options.AllowHTTP(u.Host):
		return nil, sdk.Errorf(sdk.Denied, "the refreshEndpoint is not https: plain HTTP to %s is not allowed", u.Host)
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// proof returns the token that says who asks and for which access token. Its audience is whom the control plane took the address
// from, whatever the address says, so that nobody can make us talk to a third party on his behalf.
func (c *Client) proof(f *flow.Flow, access string) (string, error) {
	signer := c.options.Signer(f.Context)
	switch {
	case signer == nil:
		return "", sdk.Errorf(sdk.Denied, "participant context %q has no DID with a key, which renewing tokens takes", f.Context)
	case identity.IsDID(f.ParticipantID) && f.ParticipantID != signer.DID():
		return "", sdk.Errorf(sdk.Denied, "the flow's participant is %s, but participant context %q has the key of %s",
			f.ParticipantID, f.Context, signer.DID())
	case f.CounterPartyID == "":
		return "", sdk.Errorf(sdk.Denied, "the flow has no counterparty to renew the token with")
	}
	now := c.options.Clock()
	proof, err := signer.Sign(map[string]any{
		"iss": signer.DID(), "sub": signer.DID(), "aud": f.CounterPartyID, "token": access,
		"iat": now.Add(-clockSkew).Unix(), "exp": now.Add(proofLife).Unix(), "jti": uuid.NewString(),
	})
	if err != nil {
		return "", sdk.Errorf(sdk.Internal, "%w", err)
	}
	return proof, nil
}

// ask sends the request.
func (c *Client) ask(ctx context.Context, endpoint *url.URL, refresh, proof string) (tokens, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return tokens{}, sdk.Errorf(sdk.Denied, "the refreshEndpoint is malformed")
	}
	request.Header.Set("Authorization", "Bearer "+proof)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return tokens{}, noAnswer(endpoint.Host, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if response.StatusCode != http.StatusOK {
		return tokens{}, refusal(endpoint.Host, response, body)
	}
	if err != nil {
		return tokens{}, sdk.Retryf(sdk.Unavailable, "read the answer of %s: %w", endpoint.Host, err)
	}
	t, err := parseAnswer(endpoint.Host, body)
	if err != nil && ctx.Err() != nil { // a server that sees us go may end its answer as if that were all
		return tokens{}, noAnswer(endpoint.Host, ctx.Err())
	}
	return t, err
}

// noAnswer says why a request was not answered: because of us, which is final, or of the other side or the network.
func noAnswer(host string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL
	}
	var guard *sdk.Error
	if errors.As(err, &guard) && (guard.Code == sdk.Denied || guard.Code == sdk.Invalid) {
		return sdk.Errorf(sdk.Denied, "ask %s for new tokens: %w", host, err)
	}
	return sdk.Retryf(sdk.Unavailable, "ask %s for new tokens: %w", host, err)
}

package publicapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Renewals renews tokens. A *token.Authority is one; the errors are those of its methods.
type Renewals interface {
	// FlowOf returns the flow of a request that has something which was issued to its client.
	FlowOf(ctx context.Context, r token.RenewRequest) (token.Flow, error)
	// Renew returns new tokens for a client that has proved who it is.
	Renew(ctx context.Context, r token.RenewRequest) (token.Issued, error)
}

// RenewalOptions are what a Handler needs to renew tokens.
type RenewalOptions struct {
	Tokens Renewals
	// Keys finds the keys that a DID's controller signs with. The method of an *identity.Resolver is one.
	Keys func(did string) identity.Keys
	// Audiences are what clients may address besides the flow's own participant, whom they can address if its id is a DID.
	Audiences []string
	// TractusX is as the Endpoint has it.
	TractusX TractusX
	Clock    func() time.Time // nil: time.Now
}

const (
	// grantTime is how long the body of a renewal may take, and proofTime how long it may take to have the keys of a DID.
	grantTime = 30 * time.Second
	proofTime = 30 * time.Second
	// proofAge is how old the iat of what a client has signed may be, and proofLeeway how far its clock may be off.
	proofAge    = 5 * time.Minute
	proofLeeway = 30 * time.Second
	// maxRenewals is how many clients are asked to prove themselves at a time, and maxRenewalsPerClient how many of them may be one.
	maxRenewals          = 512
	maxRenewalsPerClient = 64
)

// renew answers a refresh token with new tokens (RFC 6749, section 6).
//
// Nobody's DID is resolved who does not bring a token that was issued to that DID: a look-up here comes before one in the network. Who
// brings none gets the answer of those who cannot prove who they are, so that it says nothing about tokens.
func (h *Handler) renew(x *exchange) error {
	ctx := x.r.Context()
	refresh, err := readRefreshToken(x)
	if err != nil {
		return err
	}
	p, err := readProof(x.r.Header)
	if err != nil {
		return err
	}
	request := token.RenewRequest{Refresh: refresh, Client: p.Issuer, Access: p.access}
	f, err := h.Renewal.Tokens.FlowOf(ctx, request)
	if errors.Is(err, token.ErrInvalidGrant) {
		return unproven.refuse(unprovenText).from(err)
	}
	if err != nil {
		return err
	}
	x.route.key = flow.Key{Context: f.Context, ID: f.ID}
	issued, tractusX, err := h.renewFor(ctx, x.route.key, p, request)
	if err != nil {
		return err
	}
	h.replyIssued(x, issued, tractusX)
	return nil
}

// renewFor renews the tokens of a flow if the client is who it says. tractusX says that the answer is for one of Tractus-X.
func (h *Handler) renewFor(ctx context.Context, key flow.Key, p *proof, r token.RenewRequest) (i token.Issued, tractusX bool, err error) {
	leave, err := h.renewing.enter(r.Client)
	if err != nil {
		return i, false, err
	}
	defer leave()
	if err := h.verifyProof(ctx, p); err != nil {
		return i, false, err
	}
	// A flow that stops waits for us, and then revokes what we may have issued.
	joined, err := h.Flows.Join(ctx, key)
	if err != nil && h.Responses != nil { // of a push, only the response channel is served
		if other, failure := h.Responses.Join(ctx, key); failure == nil {
			joined, err = other, nil
		}
	}
	if err != nil {
		return i, false, joinRefusal(err)
	}
	defer joined.Leave()
	audience, tractusX := h.Renewal.TractusX.of(joined.Flow)
	if !h.addressed(p, joined.Flow) && !(tractusX && slices.Contains(p.Audience, audience)) {
		return i, false, unproven.refuse("the JWT is for somebody else: aud is not this participant")
	}
	r.Patient = tractusX
	i, err = h.Renewal.Tokens.Renew(ctx, r)
	if errors.Is(err, token.ErrReused) {
		h.reportReuse(context.WithoutCancel(ctx), key)
	}
	return i, tractusX, renewalRefusal(err)
}

// errReuse is what the control plane of a flow hears, since nobody else can give the counterparty new tokens.
var errReuse = sdk.Errorf(sdk.Denied, "a refresh token was used twice, so two may have it: all tokens were revoked; resume after suspend issues new ones")

func (h *Handler) reportReuse(ctx context.Context, key flow.Key) {
	if err := h.Flows.Report(ctx, key, errReuse); err != nil {
		h.Logger.ErrorContext(ctx, "reuse of a refresh token not reported", "flow", key.String(), "err", err)
	}
}

// proof is what a client has signed to show who it is.
type proof struct {
	*identity.Claims
	raw    string
	access string // the claim token
}

// readProof returns what a client has signed, unverified.
func readProof(h http.Header) (*proof, error) {
	raw := bearer(h)
	if raw == "" {
		return nil, unproven.refuse("the Authorization field has no bearer token")
	}
	c, err := identity.Peek(raw)
	if err != nil {
		return nil, unproven.refuse("the bearer token is no JWT that can be read").from(err)
	}
	access, _ := c.Extra["token"].(string)
	switch {
	case identity.CheckDID(c.Issuer) != nil:
		return nil, unproven.refuse("iss of the JWT is no DID that can be resolved")
	case c.Subject != c.Issuer:
		return nil, unproven.refuse("sub of the JWT is not its iss")
	case access == "":
		return nil, unproven.refuse("the JWT has no claim token, which is to be the access token")
	}
	return &proof{Claims: c, raw: raw, access: access}, nil
}

// verifyProof resolves the client's DID and verifies the signature, and everything that the client says but whom it addresses.
func (h *Handler) verifyProof(ctx context.Context, p *proof) error {
	rules := identity.Rules{
		Issuer: p.Issuer, Subject: p.Issuer, ExpiryOptional: true, Leeway: proofLeeway, Clock: h.Renewal.Clock,
	}
	if !p.IssuedAt.IsZero() {
		rules.MaxAge = proofAge
	}
	ctx, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	_, err := identity.Verify(ctx, p.raw, h.Renewal.Keys(p.Issuer), rules)
	var guard *sdk.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, identity.ErrKeys) && errors.As(err, &guard) && guard.Code == sdk.Denied:
		return unproven.refuse("the client's DID leads to where this data plane makes no requests").from(err)
	case errors.Is(err, identity.ErrKeys):
		return later.refuse("the keys of the client's DID are not available").from(err).retryAfter(5 * time.Second)
	case errors.Is(err, identity.ErrClaims), errors.Is(err, identity.ErrExpired):
		// These are looked at when the signature was found good.
		return unproven.refuse(err.Error())
	}
	return unproven.refuse(unprovenText).from(err)
}

// addressed reports whether a client has signed its proof for us.
func (h *Handler) addressed(p *proof, f *flow.Flow) bool {
	return slices.ContainsFunc(p.Audience, func(a string) bool {
		return slices.Contains(h.Renewal.Audiences, a) || a == f.ParticipantID && identity.IsDID(a)
	})
}

// joinRefusal says what it means for a renewal that its flow cannot be entered.
func joinRefusal(err error) error {
	var state *flow.StateError
	switch {
	case errors.As(err, &state):
		return badGrant.refuse("the data flow is " + string(state.State))
	case errors.Is(err, flow.ErrNotFound):
		return badGrant.refuse("there is no such data flow")
	}
	return err
}

// renewalRefusal says how to answer an error of Renew.
func renewalRefusal(err error) error {
	switch {
	case errors.Is(err, token.ErrReused):
		r := badGrant.refuse(err.Error())
		r.outcome = reused
		return r
	case errors.Is(err, token.ErrInvalidGrant):
		return badGrant.refuse(err.Error())
	case errors.Is(err, token.ErrTooOften):
		return tooOften.refuse(err.Error()).retryAfter(time.Minute)
	}
	return err
}

// issuedJSON is the answer with new tokens (RFC 6749, section 5.1).
type issuedJSON struct {
	Access  string `json:"access_token"`
	Type    string `json:"token_type"`
	Expires int64  `json:"expires_in"` // seconds
	// ExpiresTractusX is the same under the name that Tractus-X has for it.
	ExpiresTractusX *int64 `json:"expires,omitempty"`
	Refresh         string `json:"refresh_token"`
}

// replyIssued answers with new tokens. A client that does not hear it can ask again.
func (h *Handler) replyIssued(x *exchange, i token.Issued, tractusX bool) {
	outcome := renewed
	if i.Repeated {
		outcome = repeated
	}
	h.metrics.renewal(outcome)
	h.Logger.DebugContext(x.r.Context(), "tokens renewed", "flow", x.route.key.String(), "outcome", outcome)
	left := max(0, i.Claims.Expires.Sub(h.Renewal.Clock()))
	setNoStore(x.header())
	answer := issuedJSON{Access: i.Access, Type: "Bearer", Expires: int64((left + time.Second - 1) / time.Second), Refresh: i.Refresh}
	if tractusX {
		answer.Type, answer.ExpiresTractusX = "bearer", &answer.Expires
	}
	_ = x.replyJSON(http.StatusOK, answer)
}

// setNoStore is what RFC 6749 asks of every answer of a token endpoint.
func setNoStore(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
}

package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// maxMetadata is the longest metadata of an authorization server, in bytes.
const maxMetadata = 256 << 10

// discover completes a registration for token exchange that says where the metadata of its authorization server is (RFC 8414), rather
// than what is in it. What the registration says itself goes before that, but an issuer has to be the same. The error is a
// *flow.RequestError.
func (d *Directory) discover(ctx context.Context, a *AuthorizationEntry) error {
	if a == nil || a.MetadataEndpoint == "" {
		return nil
	}
	from := a.MetadataEndpoint
	a.MetadataEndpoint = "" // what is kept is what was found
	if a.Type != AuthTokenExchange || a.TokenExchangeEndpoint != "" && a.Issuer != "" && a.JWKSURI != "" {
		return nil
	}
	const field = "authorization.metadataEndpoint"
	if err := d.checkReachable(field, from); err != nil {
		return err
	}
	found, err := d.metadata(ctx, from)
	if err != nil {
		return invalid(field, "%v", err)
	}
	switch {
	case !sameOrigin(found.Issuer, from):
		return invalid(field, "is at another host than the issuer that it names")
	case a.Issuer != "" && a.Issuer != found.Issuer:
		return invalid("authorization.issuer", "is not the one that metadataEndpoint names")
	}
	a.Issuer = found.Issuer
	for into, value := range map[*string]string{&a.TokenExchangeEndpoint: found.TokenExchangeEndpoint, &a.JWKSURI: found.JWKSURI} {
		if *into == "" {
			*into = value
		}
	}
	return nil
}

// metadata reads what an authorization server says of itself. The error repeats nothing of the answer.
func (d *Directory) metadata(ctx context.Context, from string) (AuthorizationEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	r, err := newRequest(ctx, http.MethodGet, from, nil)
	if err != nil {
		return AuthorizationEntry{}, errors.New("is not a URL that can be called")
	}
	answer, err := (&peer{http: d.guarded}).send(r, maxMetadata+1)
	switch {
	case err != nil:
		return AuthorizationEntry{}, fmt.Errorf("cannot be read: %s", sendFailure(err, DefaultTimeout))
	case answer.StatusCode != http.StatusOK:
		return AuthorizationEntry{}, fmt.Errorf("cannot be read: it answered %d", answer.StatusCode)
	case len(answer.body) > maxMetadata:
		return AuthorizationEntry{}, fmt.Errorf("answers with more than %d bytes", maxMetadata)
	}
	found, err := decodeMetadata(answer.body)
	if err != nil {
		return AuthorizationEntry{}, fmt.Errorf("answers with what is no metadata: %w", err)
	}
	return found, nil
}

// decodeMetadata reads the metadata of an authorization server, as far as a token exchange needs it.
func decodeMetadata(body []byte) (AuthorizationEntry, error) {
	if err := checkJSON(body); err != nil {
		return AuthorizationEntry{}, err
	}
	f, err := parseFields("", body)
	if err != nil {
		return AuthorizationEntry{}, err
	}
	a := AuthorizationEntry{Issuer: f.required("issuer"), TokenExchangeEndpoint: f.required("token_endpoint"), JWKSURI: f.required("jwks_uri")}
	return a, f.err
}

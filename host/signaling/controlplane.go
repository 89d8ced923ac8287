package signaling

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// ControlPlane is a control plane that an operator configured. Its strings with secrets are never logged and never part of an error.
type ControlPlane struct {
	ID string
	// Context is the participant context that it acts in. "": flow.DefaultContext.
	Context string
	// Protocol is what it speaks. nil: Data Plane Signaling.
	Protocol Protocol
	// Endpoint is the URL below which /transfers/{id}/… is, or what its Protocol has in place of that.
	Endpoint string
	// GiveUpAfter is the age at which a callback that still fails is given up. 0: DefaultGiveUpAfter.
	GiveUpAfter time.Duration
	// Timeout is for one request to it, with what it takes to be authorized. 0: DefaultTimeout.
	Timeout time.Duration
	// Parallel is the number of callbacks on their way at a time. 0: DefaultParallel.
	Parallel int
	// HTTP calls it, its authorization server, and the URL of its keys. Redirects are not followed and cookies not kept, whatever it
	// says. nil: the Directory's.
	HTTP *http.Client
	// Inbound is how it proves who it is. The zero value is for a control plane that is the only one there can be: whoever calls is it.
	Inbound Inbound
	// Outbound is how this side proves to it who it is. The zero value: not at all.
	Outbound Outbound
	// Registration has this data plane registered there. nil: it is not.
	Registration *Registration
}

// The defaults of a ControlPlane.
const (
	DefaultGiveUpAfter = 24 * time.Hour
	DefaultTimeout     = 10 * time.Second
	DefaultParallel    = 16
)

// The types of authorization. The first two are authorization profiles of the specification, the third is between the two operators.
const (
	AuthClientCredentials = "oauth2_client_credentials"
	AuthTokenExchange     = "oauth2_token_exchange"
	AuthStatic            = "static"
)

// Inbound says by what a request of a control plane is known.
type Inbound struct {
	// Type is one of the types of authorization, or "" for none.
	Type string

	// For both OAuth types: what a token must say, apart from having been issued and not expired.

	// Issuer is the iss claim. Required for token exchange; otherwise "" for any.
	Issuer string
	// Subject is the sub claim for client credentials; "": the control plane's id. For token exchange it is the client_id claim, or sub
	// if there is none; "": a token names the control plane by its id there, or by its participant context.
	Subject string
	// Audiences are those of which the aud claim names one. None: the id of this data plane.
	Audiences []string
	// RequiredScope is one of those in the scope claim. "": none.
	RequiredScope string
	// JWKSURI is where the keys are that tokens are signed with. JWKS are the keys themselves. Required for token exchange is the URI,
	// for client credentials one of them, unless InsecureSkipSignature takes anybody's word.
	JWKSURI               string
	JWKS                  []byte
	InsecureSkipSignature bool
	// SingleUse refuses a token that was used before. Most clients use theirs until it expires.
	SingleUse bool

	// For AuthStatic.

	// Header is the header field with the secret: after "Bearer" in Authorization, alone in any other. "": Authorization.
	Header string
	Secret string
}

// Outbound says what goes with a request to a control plane.
type Outbound struct {
	// Type is one of the types of authorization, or "" for none.
	Type string

	// For AuthClientCredentials.

	TokenEndpoint string
	ClientID      string
	ClientSecret  string
	// ClientAuth is how the secret is sent: ClientAuthBasic, ClientAuthPost, or "" for the first, and the second where that is refused.
	ClientAuth string

	// For AuthTokenExchange.

	TokenExchangeEndpoint string
	// SubjectTokenFile has this workload's own credential, a JWT. It is read for each exchange.
	SubjectTokenFile string

	// For both OAuth types.

	// Resource and Audience are whom the token is for. For token exchange "" is the control plane's endpoint and its id; otherwise such a
	// parameter is not sent.
	Resource string
	Audience string
	Scope    string
	// SingleUse gets a new token for each request, for peers that take none twice.
	SingleUse bool

	// For AuthStatic: as in Inbound.

	Header string
	Secret string
}

// How a client sends its secret to a token endpoint (RFC 6749, section 2.3.1).
const (
	ClientAuthBasic = "client_secret_basic"
	ClientAuthPost  = "client_secret_post"
)

// Registration says how this data plane is registered at a control plane.
type Registration struct {
	// Endpoint is the URL below which data planes are registered, as /dataplanes. "": the control plane's.
	Endpoint string
	// DataPlaneEndpoint is the URL at which the control plane is told to reach this data plane.
	DataPlaneEndpoint string
	Labels            []string
	// Headers go with each request, in place of the control plane's outbound authorization if there are any.
	Headers map[string]string
	// Authorization is told to the control plane: how it authorizes itself here, and knows this data plane. nil: nothing is told.
	Authorization *AuthorizationEntry
	// DeregisterOnStop ends the registration when the Registrar stops.
	DeregisterOnStop bool
}

func (cp ControlPlane) withDefaults() ControlPlane {
	cp.Context = cmp.Or(cp.Context, flow.DefaultContext)
	if cp.GiveUpAfter <= 0 {
		cp.GiveUpAfter = DefaultGiveUpAfter
	}
	if cp.Timeout <= 0 {
		cp.Timeout = DefaultTimeout
	}
	if cp.Parallel <= 0 {
		cp.Parallel = DefaultParallel
	}
	return cp
}

// check says what is wrong with a control plane, without repeating a secret. cp has its defaults.
func (cp ControlPlane) check() error {
	if why := flow.CheckID(cp.ID); why != "" {
		return errors.New("the id " + why)
	}
	if err := checkURL(cp.Endpoint); err != nil {
		return fmt.Errorf("the endpoint %w", err)
	}
	if err := cp.Inbound.check(); err != nil {
		return fmt.Errorf("inbound authorization: %w", err)
	}
	if err := cp.Outbound.check(); err != nil {
		return fmt.Errorf("outbound authorization: %w", err)
	}
	if cp.Registration == nil {
		return nil
	}
	if err := cp.Registration.check(); err != nil {
		return fmt.Errorf("registration: %w", err)
	}
	return nil
}

func (in Inbound) check() error {
	switch in.Type {
	case "":
		return nil
	case AuthClientCredentials:
		switch {
		case in.JWKSURI != "" && in.JWKS != nil:
			return errors.New("the keys are given both by URL and as they are")
		case in.JWKSURI == "" && in.JWKS == nil && !in.InsecureSkipSignature:
			return errors.New("there are no keys to verify tokens with")
		}
	case AuthTokenExchange:
		switch {
		case in.Issuer == "":
			return errors.New("there is no issuer")
		case in.JWKSURI == "":
			return errors.New("there is no URL of keys to verify tokens with")
		}
	case AuthStatic:
		return checkSecretHeader(in.Header, in.Secret)
	default:
		return fmt.Errorf("the type %.100q is not supported", in.Type)
	}
	if in.JWKSURI == "" {
		return nil
	}
	if err := checkURLWithQuery(in.JWKSURI); err != nil {
		return fmt.Errorf("the URL of keys %w", err)
	}
	return nil
}

func (o Outbound) check() error {
	switch o.Type {
	case "":
		return nil
	case AuthClientCredentials:
		switch {
		case o.ClientID == "":
			return errors.New("there is no client id")
		case o.ClientSecret == "":
			return errors.New("there is no client secret")
		case o.ClientAuth != "" && o.ClientAuth != ClientAuthBasic && o.ClientAuth != ClientAuthPost:
			return fmt.Errorf("the client authentication %.100q is not supported", o.ClientAuth)
		}
		if err := checkURLWithQuery(o.TokenEndpoint); err != nil {
			return fmt.Errorf("the token endpoint %w", err)
		}
		return nil
	case AuthTokenExchange:
		if o.SubjectTokenFile == "" {
			return errors.New("there is no file with a subject token")
		}
		if err := checkURLWithQuery(o.TokenExchangeEndpoint); err != nil {
			return fmt.Errorf("the token exchange endpoint %w", err)
		}
		return nil
	case AuthStatic:
		return checkSecretHeader(o.Header, o.Secret)
	default:
		return fmt.Errorf("the type %.100q is not supported", o.Type)
	}
}

func (r Registration) check() error {
	if r.Endpoint != "" {
		if err := checkURL(r.Endpoint); err != nil {
			return fmt.Errorf("the endpoint %w", err)
		}
	}
	if err := checkURL(r.DataPlaneEndpoint); err != nil {
		return fmt.Errorf("the data plane's endpoint %w", err)
	}
	for name, value := range r.Headers {
		if err := checkHeader(name, value); err != nil {
			return err
		}
	}
	if r.Authorization == nil {
		return nil
	}
	return r.Authorization.check()
}

// checkURL says what is wrong with the URL of something that paths are added to. The error begins with a verb.
func checkURL(raw string) error {
	if err := checkURLWithQuery(raw); err != nil {
		return err
	}
	if strings.Contains(raw, "?") {
		return errors.New("has a query or a fragment") // which may be a secret
	}
	return nil
}

func checkURLWithQuery(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return errors.New("is not a URL") // the parser's error repeats it
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("is not an absolute HTTP URL")
	case u.User != nil:
		return errors.New("contains credentials")
	case strings.Contains(raw, "#"):
		return errors.New("has a query or a fragment")
	default:
		return nil
	}
}

func checkSecretHeader(name, secret string) error {
	if secret == "" {
		return errors.New("there is no secret")
	}
	return checkHeader(cmp.Or(name, authorization), secret)
}

// checkHeader says what is wrong with a header field, without its value.
func checkHeader(name, value string) error {
	const separators = "()<>@,;:\\\"/[]?={} \t"
	notVisible := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case name == "" || strings.ContainsFunc(name, notVisible) || strings.ContainsAny(name, separators):
		return fmt.Errorf("%.100q cannot be the name of a header field", name)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(value) != value:
		return fmt.Errorf("the value of the header field %s cannot be one", name)
	default:
		return nil
	}
}

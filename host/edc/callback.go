package edc

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Client writes what leaves this data plane for one EDC control plane: callbacks and registrations. It is made for a signaling.ControlPlane,
// and sends nothing itself. The fields are set before use and not changed. It is safe for concurrent use.
type Client struct {
	// CallbackAddresses are URLs whose origins the callbackAddress of a message may have, besides that of the control plane's endpoint.
	CallbackAddresses []string
	// Profile finds a profile by its name.
	Profile func(name string) (flow.Profile, bool)
	// ProvisionTypes are the types of destinations that this data plane wants to prepare for consumers.
	ProvisionTypes []string
	// Logger gets a line for each callbackAddress that is not used. nil: none.
	Logger *slog.Logger

	mu      sync.Mutex // guards refused
	refused map[string]bool
}

// Name names the protocol.
func (*Client) Name() string { return "edc" }

// Callback returns the URL to which a callback is POSTed, and the body, nil for none. Its place is the callbackAddress of the flow's
// messages, if that has an origin which the operator has named; otherwise the control plane's endpoint.
func (c *Client) Callback(endpoint string, cb flow.Callback) (to string, body []byte) {
	process := c.base(endpoint, cb) + "/transferprocess/" + url.PathEscape(cb.Key.ID)
	switch cb.Kind {
	case flow.CallbackCompleted:
		return process + "/complete", nil
	case flow.CallbackErrored:
		return process + "/fail", encode(failure{Message: orUnknown(cb.Error)})
	default: // PREPARED, and STARTED after work that the answer did not wait for: the control plane starts the flow anew then
		return process + "/provisioned", encode(jacksonAddress(issued(c.Profile, cb.DataAddress)))
	}
}

// failure is the body of /fail, which has to have a text.
type failure struct {
	Message string `json:"errorMessage"`
}

func orUnknown(text string) string {
	if strings.TrimSpace(text) == "" {
		return "the data plane gave no reason"
	}
	return text
}

// base is what /transferprocess is added to, without '/' at its end.
func (c *Client) base(endpoint string, cb flow.Callback) string {
	if cb.To == "" || cb.To == endpoint {
		return strings.TrimRight(endpoint, "/")
	}
	asked, ok := origin(cb.To)
	for _, known := range append([]string{endpoint}, c.CallbackAddresses...) {
		if o, good := origin(known); ok && good && o == asked {
			return strings.TrimRight(cb.To, "/")
		}
	}
	c.warn(cb)
	return strings.TrimRight(endpoint, "/")
}

// maxRefused bounds the addresses of which it is remembered that they were warned of.
const maxRefused = 1000

func (c *Client) warn(cb flow.Callback) {
	c.mu.Lock()
	seen := c.refused[cb.To]
	if c.refused == nil || len(c.refused) >= maxRefused {
		c.refused = map[string]bool{}
	}
	c.refused[cb.To] = true
	c.mu.Unlock()
	if seen || c.Logger == nil {
		return
	}
	at, ok := origin(cb.To)
	if !ok {
		at = "no URL that can be used"
	}
	c.Logger.Warn("a callbackAddress is not used, since its origin is neither the endpoint's nor one of callback_addresses: callbacks go to the endpoint",
		"control_plane", cb.ControlPlane, "flow", cb.Key.String(), "origin", at)
}

// origin returns scheme, host and port of a URL that paths can be added to, and whether it is one.
func origin(raw string) (string, bool) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(raw, "?#") {
		return "", false
	}
	port := u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", false
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port, true
}

// forgottenAfter is the age at which a callback is given up whose transfer process the control plane does not know. Before that, one that
// restarts may not have read it yet.
const forgottenAfter = 15 * time.Minute

// Verdict says what an answer's status means for a callback of some age. 409 is an answer of every day: the control plane is at work on the
// transfer process, and takes the callback later.
func (*Client) Verdict(status int, age time.Duration) (arrived, final bool) {
	switch status {
	case http.StatusOK, http.StatusNoContent:
		return true, false
	case http.StatusNotFound:
		return false, age >= forgottenAfter
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly,
		http.StatusTooManyRequests:
		return false, false
	}
	return false, status/100 == 4
}

// addressJSON is a DataAddress as Jackson reads it, which is no JSON-LD.
type addressJSON struct {
	Properties map[string]string `json:"properties"`
}

// jacksonAddress writes an address with EDC's property names. One always has a type.
func jacksonAddress(a *sdk.DataAddress) addressJSON {
	if a == nil {
		a = &sdk.DataAddress{Type: httpData}
	}
	properties := map[string]string{namespace + "type": a.Type}
	for name, value := range withHTTP(a).Properties {
		properties[full(name)] = value
	}
	if a.Endpoint == "" {
		return addressJSON{properties}
	}
	properties[namespace+"endpoint"] = a.Endpoint
	return addressJSON{properties}
}

package signaling

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// problem is the body of a refusal (RFC 9457), with what the control plane's operator needs to know. It is an error on its way there.
type problem struct {
	Type       string     `json:"type"`
	Title      string     `json:"title"`
	Status     int        `json:"status"`
	Detail     string     `json:"detail,omitempty"`
	Instance   string     `json:"instance,omitempty"`
	DataFlowID string     `json:"dataFlowId,omitempty"`
	State      flow.State `json:"state,omitempty"`
	Field      string     `json:"field,omitempty"`

	header http.Header
	cause  error // for the log only
}

func (p *problem) Error() string { return p.Title + ": " + p.Detail }

// with adds a header field to the answer.
func (p *problem) with(name, value string) *problem {
	p.header = http.Header{}
	p.header.Set(name, value)
	return p
}

func (p *problem) slug() string { return strings.TrimPrefix(p.Type, typePrefix) }

const typePrefix = "urn:towpath:problem:"

// problemType is a kind of problem. Clients may rely on its slug.
type problemType struct {
	status int
	slug   string
	title  string
}

var (
	invalidMessage     = problemType{http.StatusBadRequest, "invalid-message", "The message is not valid"}
	unauthorized       = problemType{http.StatusUnauthorized, "unauthorized", "The caller is not known"}
	browser            = problemType{http.StatusForbidden, "browser", "The request comes from a browser"}
	noSuchEndpoint     = problemType{http.StatusNotFound, "no-such-endpoint", "There is no such endpoint"}
	noSuchFlow         = problemType{http.StatusNotFound, "no-such-flow", "There is no such data flow"}
	noSuchControlPlane = problemType{http.StatusNotFound, "no-such-control-plane", "There is no such control plane"}
	methodNotAllowed   = problemType{http.StatusMethodNotAllowed, "method-not-allowed", "The endpoint does not take this method"}
	wrongState         = problemType{http.StatusConflict, "wrong-state", "The data flow is in another state"}
	messageReused      = problemType{http.StatusConflict, "message-reused", "The message id was used before"}
	controlPlaneTaken  = problemType{http.StatusConflict, "control-plane-taken", "The id is that of another control plane"}
	tooManyPlanes      = problemType{http.StatusConflict, "too-many-control-planes", "There are too many control planes"}
	tooLarge           = problemType{http.StatusRequestEntityTooLarge, "too-large", "The message is too long"}
	unsupportedMedia   = problemType{http.StatusUnsupportedMediaType, "unsupported-media-type", "The media type is not supported"}
	internal           = problemType{http.StatusInternalServerError, "internal", "The data plane failed"}
	keysUnavailable    = problemType{http.StatusServiceUnavailable, "keys-unavailable", "The caller cannot be verified now"}
	storageFails       = problemType{http.StatusServiceUnavailable, "storage-fails", "The data plane cannot store anything at the moment"}
	shuttingDown       = problemType{http.StatusServiceUnavailable, "shutting-down", "The data plane is shutting down"}
)

func (t problemType) problem(format string, args ...any) *problem {
	return &problem{Type: typePrefix + t.slug, Title: t.title, Status: t.status, Detail: fmt.Sprintf(format, args...)}
}

// retryAfter is when, in seconds, a control plane may find a data plane again that is shutting down, that has no keys or no room.
const retryAfter = "5"

// problemOf says how a signal's failure looks from outside. The text of an error that is not meant for control planes stays inside.
func problemOf(err error) *problem {
	var (
		p       *problem
		request *flow.RequestError
		state   *flow.StateError
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &request):
		p = invalidMessage.problem("%s", request.Error())
		p.Field = request.Field
	case errors.As(err, &state):
		p = wrongState.problem("%s", state.Error())
		p.State = state.State
	case errors.Is(err, flow.ErrNotFound):
		p = noSuchFlow.problem("%s", flow.ErrNotFound)
	case errors.Is(err, flow.ErrMessageReused):
		p = messageReused.problem("%s", flow.ErrMessageReused)
	case errors.Is(err, flow.ErrClosed):
		p = shuttingDown.problem("%s", flow.ErrClosed).with("Retry-After", retryAfter)
	case errors.Is(err, flow.ErrStorage):
		p = storageFails.problem("nothing was changed; the cause is in the data plane's log under this instance").with("Retry-After", retryAfter)
	default:
		p = internal.problem("the failure is in the data plane's log under this instance")
	}
	return p
}

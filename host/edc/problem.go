package edc

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// problem is why a request is refused. EDC's control planes log it and look at nothing but the status.
type problem struct {
	kind
	message string
	path    string // of the member at fault, "" for none
	header  http.Header
	cause   error // for the log only
}

func (p *problem) Error() string { return p.message }

// with adds a header field to the answer.
func (p *problem) with(name, value string) *problem {
	p.header = http.Header{}
	p.header.Set(name, value)
	return p
}

// kind is a kind of problem: its status, the type that EDC's ApiErrorDetail has, and its label in logs and metrics.
type kind struct {
	status int
	typ    string
	slug   string
}

var (
	invalidMessage   = kind{http.StatusBadRequest, "InvalidRequest", "invalid-message"}
	invalidMember    = kind{http.StatusBadRequest, "ValidationFailure", "invalid-message"}
	notAuthenticated = kind{http.StatusUnauthorized, "AuthenticationFailed", "unauthorized"}
	notAuthorized    = kind{http.StatusForbidden, "NotAuthorized", "forbidden"}
	noSuchEndpoint   = kind{http.StatusNotFound, "ObjectNotFound", "no-such-endpoint"}
	noSuchFlow       = kind{http.StatusNotFound, "ObjectNotFound", "no-such-flow"}
	methodNotAllowed = kind{http.StatusMethodNotAllowed, "InvalidRequest", "method-not-allowed"}
	wrongState       = kind{http.StatusConflict, "ObjectConflict", "wrong-state"}
	inUse            = kind{http.StatusConflict, "ObjectConflict", "in-use"}
	tooLarge         = kind{http.StatusRequestEntityTooLarge, "InvalidRequest", "too-large"}
	unsupportedMedia = kind{http.StatusUnsupportedMediaType, "InvalidRequest", "unsupported-media-type"}
	unavailable      = kind{http.StatusServiceUnavailable, "ServiceUnavailable", "unavailable"}
	internal         = kind{http.StatusInternalServerError, "ServerError", "internal"}
)

func (k kind) problem(format string, args ...any) *problem {
	return &problem{kind: k, message: fmt.Sprintf(format, args...)}
}

// invalid returns the problem with a member of a message; path is "" for the whole message.
func invalid(path, format string, args ...any) *problem {
	k := invalidMember
	if path == "" {
		k = invalidMessage
	}
	p := k.problem(format, args...)
	p.path = path
	return p
}

// retryAfter is when, in seconds, what is not possible now may be.
const retryAfter = "5"

// members are EDC's names for what the engine finds fault with.
var members = map[string]string{
	"dataFlowId":     "processId",
	"profile":        "transferType",
	"counterPartyId": "participantId",
	"dataAddress":    "destinationDataAddress",
}

// problemOf says how a failure looks from outside. The text of an error that is not meant for control planes stays inside.
func problemOf(err error) *problem {
	var (
		p       *problem
		request *flow.RequestError
		state   *flow.StateError
		plugin  *sdk.Error
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &request) && request.Field == "dataFlowId":
		p = inUse.problem("the transfer process is another control plane's")
		p.path = "processId"
	case errors.As(err, &request):
		p = invalid(request.Field, "%s", request.Message)
		if name, ok := members[request.Field]; ok {
			p.path = name
		}
	case errors.As(err, &state):
		p = wrongState.problem("%s", state.Error())
	case errors.Is(err, flow.ErrNotFound):
		p = noSuchFlow.problem("%s", flow.ErrNotFound)
	case errors.Is(err, flow.ErrClosed), errors.Is(err, flow.ErrStorage):
		p = unavailable.problem("nothing was changed; try again").with("Retry-After", retryAfter)
	case errors.As(err, &plugin) && plugin.Retryable:
		p = unavailable.problem("the plugin that is needed is not ready; try again").with("Retry-After", retryAfter)
	default:
		p = internal.problem("the failure is in the data plane's log")
	}
	p.cause = err
	return p
}

// detail is EDC's ApiErrorDetail. The value at fault is never repeated: it may be a secret.
type detail struct {
	Message      string  `json:"message"`
	Type         string  `json:"type"`
	Path         *string `json:"path"`
	InvalidValue any     `json:"invalidValue"`
}

func (p *problem) details() []detail {
	d := detail{Message: p.message, Type: p.typ}
	if p.path != "" {
		d.Path = &p.path
	}
	return []detail{d}
}

package publicapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// problem is an answer that says why there is no other (RFC 9457). It is also the error that leads to it.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Instance is what the log calls a failure of ours.
	Instance string     `json:"instance,omitempty"`
	State    flow.State `json:"state,omitempty"`
	// Retry says of a message on a response channel whether it is of use to send it again later.
	Retry *bool `json:"retry,omitempty"`
	// Stored are the parts of a multipart request that are durable nevertheless.
	Stored []storedPart `json:"stored,omitempty"`
	// Differences are the first that a manifest has from what is here; More counts the others.
	Differences []difference `json:"differences,omitempty"`
	More        int          `json:"more,omitempty"`
	// Expected and Provided are the offsets of an upload, where they are not the same.
	Expected *int64 `json:"expected-offset,omitempty"`
	Provided *int64 `json:"provided-offset,omitempty"`

	header http.Header
	err    error // the cause, for the log only
	spoils bool  // an upload that met it cannot go on
}

func (p *problem) Error() string {
	if p.err != nil {
		return p.Title + ": " + p.err.Error()
	}
	return p.Title + ": " + p.Detail
}

func (p *problem) Unwrap() error { return p.err }

// with adds a header field to the answer.
func (p *problem) with(name, value string) *problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Add(name, value)
	return p
}

// retryAfter tells the client when to try again, in whole seconds.
func (p *problem) retryAfter(d time.Duration) *problem {
	return p.with("Retry-After", seconds(d))
}

// seconds writes a duration in whole seconds, at least one.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}

// from keeps the cause for the log.
func (p *problem) from(err error) *problem {
	p.err = err
	return p
}

// kind is what problems of one sort have in common.
type kind struct {
	status int
	name   string
	title  string
}

var (
	badRequest     = kind{http.StatusBadRequest, "bad-request", "The request is not as it should be"}
	invalidToken   = kind{http.StatusUnauthorized, "invalid-token", "A valid token is needed"}
	revokedToken   = kind{http.StatusForbidden, "revoked-token", "The token was revoked"}
	foreignToken   = kind{http.StatusForbidden, "foreign-token", "The token is for something else"}
	exhaustedToken = kind{http.StatusForbidden, "exhausted-token", "The token has moved as many bytes as it may"}
	accessDenied   = kind{http.StatusForbidden, "access-denied", "Access is denied"}
	stopped        = kind{http.StatusForbidden, "stopped", "The data flow has stopped"}
	notFound       = kind{http.StatusNotFound, "not-found", "There is nothing here"}
	digestMismatch = kind{http.StatusBadRequest, "digest-mismatch", "The content is not what was announced"}
	gone           = kind{http.StatusGone, "gone", "There is nothing here any more"}
	wrongMethod    = kind{http.StatusMethodNotAllowed, "wrong-method", "The method is not for this path"}
	tooSlow        = kind{http.StatusRequestTimeout, "too-slow", "The request took too long"}
	notStarted     = kind{http.StatusConflict, "not-started", "The data flow has not started yet"}
	conflict       = kind{http.StatusConflict, "conflict", "The request does not fit what is here"}
	conditionFails = kind{http.StatusPreconditionFailed, "precondition-failed", "A condition of the request does not hold"}
	tooLarge       = kind{http.StatusRequestEntityTooLarge, "too-large", "The content is larger than allowed"}
	unsupported    = kind{http.StatusUnsupportedMediaType, "unsupported", "The content is encoded in a way that is not taken"}
	outOfRange     = kind{http.StatusRequestedRangeNotSatisfiable, "out-of-range", "The part has no such bytes"}
	inconsistent   = kind{http.StatusUnprocessableEntity, "inconsistent", "The manifest contradicts itself"}
	tooMany        = kind{http.StatusTooManyRequests, "too-many-requests", "The token is in use too often at once"}
	ourFault       = kind{http.StatusInternalServerError, "internal", "The data plane failed"}
	backendFailed  = kind{http.StatusBadGateway, "backend-failed", "Where the data lives did not do its part"}
	unavailable    = kind{http.StatusServiceUnavailable, "unavailable", "This cannot be done right now"}
	backendSlow    = kind{http.StatusGatewayTimeout, "backend-slow", "Where the data lives did not answer in time"}
	oldHTTP        = kind{http.StatusHTTPVersionNotSupported, "old-http", "HTTP/1.1 is needed"}
	noRoom         = kind{http.StatusInsufficientStorage, "no-room", "There is no room for the content"}
)

// because makes a problem of the kind with a detail for the client.
func (k kind) because(format string, args ...any) *problem {
	return &problem{Type: "urn:towpath:problem:" + k.name, Title: k.title, Status: k.status, Detail: fmt.Sprintf(format, args...)}
}

// problemOf says how to answer an error. What it does not know is a fault of ours.
func problemOf(err error) *problem {
	var p *problem
	var state *flow.StateError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &state):
		return stateProblem(state)
	case errors.Is(err, flow.ErrNotFound):
		return notFound.because("there is no such data flow")
	case errors.Is(err, flow.ErrClosed):
		return unavailable.because("the data plane is shutting down").retryAfter(5 * time.Second)
	case errors.Is(err, flow.ErrStorage):
		return unavailable.because("nothing can be stored at the moment").retryAfter(time.Second).from(err)
	case errors.Is(err, errCut):
		return stopped.because("the data flow was stopped while the request ran")
	case errors.Is(err, errClientGone), errors.Is(err, context.Canceled):
		// Whoever hears this is still there, behind a network that has cut one direction.
		return badRequest.because("the client has gone").retryAfter(time.Second)
	}
	return ourFault.because("the failure was logged").from(err)
}

// stateProblem says why a flow in its state does not take the request.
func stateProblem(e *flow.StateError) *problem {
	var p *problem
	switch e.State {
	case flow.Preparing, flow.Prepared, flow.Starting:
		p = notStarted.because("the data flow is %s", e.State).retryAfter(time.Second)
	case flow.Started:
		p = conflict.because("the data flow does not take this: %s", e.Why)
	default:
		p = stopped.because("the data flow is %s", e.State)
	}
	p.State = e.State
	return p
}

// sourceProblem answers a failure of the source before anything was sent.
func sourceProblem(err error) *problem {
	e := sdk.AsError(err)
	if e.Code == sdk.NotFound {
		return notFound.because("the source has no such data").from(err)
	}
	return backendProblem(err, e)
}

// sinkProblem answers a failure of the sink.
func sinkProblem(err error) *problem {
	e := sdk.AsError(err)
	switch e.Code {
	case sdk.Conflict:
		return conflict.because("something else is stored under this name").from(err)
	case sdk.Exhausted:
		p := noRoom.because("the sink has no room").from(err)
		if e.Retryable {
			p.retryAfter(e.RetryAfter)
		}
		return p
	}
	return backendProblem(err, e)
}

func backendProblem(err error, e *sdk.Error) *problem {
	switch {
	case isTimeout(err):
		return backendSlow.because("try again later").from(err)
	case e.Code == sdk.Exhausted, e.Code == sdk.Unavailable && e.Retryable:
		return unavailable.because("try again later").from(err).retryAfter(e.RetryAfter)
	}
	return backendFailed.because("%s", whatFailed(e.Code)).from(err)
}

// whatFailed says without anything that a plugin has said what a backend did.
func whatFailed(c sdk.Code) string {
	switch c {
	case sdk.Denied:
		return "it does not let the data plane in; the failure was logged"
	case sdk.Unavailable:
		return "it cannot be reached; the failure was logged"
	case sdk.Invalid:
		return "it does not take what it is asked for; the failure was logged"
	case sdk.Corrupt:
		return "it does not give what it has announced; the failure was logged"
	}
	return "the failure was logged"
}

// write sends the problem.
func (p *problem) write(x *exchange) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	h := x.header()
	for name, values := range p.header {
		h[name] = values
	}
	for _, name := range []string{"Etag", "Last-Modified", "Accept-Ranges", "Content-Disposition", "Repr-Digest", "Trailer"} {
		h.Del(name)
	}
	return x.reply(p.Status, "application/problem+json", body)
}

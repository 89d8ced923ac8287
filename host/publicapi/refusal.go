package publicapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// refusal is an answer that says why there are no new tokens (RFC 6749, section 5.2). It is also the error that leads to it.
type refusal struct {
	grantError
	text    string // for the client
	outcome string // a label of metrics
	header  http.Header
	err     error // the cause, for the log only
}

func (r *refusal) Error() string {
	if r.err != nil {
		return r.text + ": " + r.err.Error()
	}
	return r.text
}

func (r *refusal) Unwrap() error { return r.err }

// from keeps the cause for the log.
func (r *refusal) from(err error) *refusal {
	r.err = err
	return r
}

// retryAfter tells the client when to try again.
func (r *refusal) retryAfter(d time.Duration) *refusal {
	r.header.Set("Retry-After", seconds(d))
	return r
}

// grantError is what refusals of one sort have in common.
type grantError struct {
	status int
	code   string
}

var (
	badGrantRequest = grantError{http.StatusBadRequest, "invalid_request"}
	badGrant        = grantError{http.StatusBadRequest, "invalid_grant"}
	otherGrant      = grantError{http.StatusBadRequest, "unsupported_grant_type"}
	unproven        = grantError{http.StatusUnauthorized, "invalid_client"}
	tooOften        = grantError{http.StatusTooManyRequests, "temporarily_unavailable"}
	later           = grantError{http.StatusServiceUnavailable, "temporarily_unavailable"}
)

// Outcomes of renewals that are no codes of errors.
const (
	renewed  = "renewed"
	repeated = "repeated"
	reused   = "reused"
)

// unprovenText is for all who may have no business here: with it nobody learns what a token is worth.
const unprovenText = "the client could not be authenticated"

// refuse makes a refusal of the sort with a text for the client.
func (e grantError) refuse(text string) *refusal {
	r := &refusal{grantError: e, text: text, outcome: e.code, header: http.Header{}}
	if e == unproven {
		r.header.Set("WWW-Authenticate", challenge)
	}
	return r
}

// refusalOf says how to answer an error of a renewal: as the problem that it would be elsewhere.
func refusalOf(err error) *refusal {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	p := problemOf(err)
	code := badGrantRequest.code
	switch {
	case p.Status == http.StatusServiceUnavailable:
		code = later.code
	case p.Status >= http.StatusInternalServerError:
		code = "server_error"
	}
	r = grantError{p.Status, code}.refuse(p.Detail).from(p.err)
	if p.header != nil {
		r.header = p.header
	}
	return r
}

// refuseRenewal answers with the refusal that err is.
func (h *Handler) refuseRenewal(x *exchange, err error) {
	r := refusalOf(err)
	if r.status == http.StatusInternalServerError {
		r.text += ", as urn:uuid:" + uuid.NewString()
	}
	h.Logger.Log(context.WithoutCancel(x.r.Context()), r.level(x.route.key), "renewal refused",
		"flow", x.route.key.String(), "outcome", r.outcome, "err", r)
	for name, values := range r.header {
		x.header()[name] = values
	}
	setNoStore(x.header())
	// If it cannot be sent, there is nobody to tell.
	_ = x.replyJSON(r.status, refusalJSON{r.code, describe(r.text)})
	h.metrics.renewal(r.outcome)
	h.metrics.answered(x.route.operation, r.status)
}

// refusalJSON is a refusal as it is sent.
type refusalJSON struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// level says how loud the log is about a refusal. What anybody can cause is not to fill it.
func (r *refusal) level(key flow.Key) slog.Level {
	switch {
	case r.status == http.StatusInternalServerError:
		return slog.LevelError
	case r.outcome == reused:
		return slog.LevelWarn
	case key == flow.Key{}:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// describe leaves in a text what an error_description may have.
func describe(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"', r == '\\':
			return '\''
		case r < ' ', r > '~':
			return '?'
		}
		return r
	}, text)
}

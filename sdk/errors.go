package sdk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Code sorts errors by who can do something about them. Codes survive the trip between host and plugin.
type Code string

// The codes, as in towpath.plugin.v1.ErrorCode.
const (
	Internal    Code = "internal"    // a fault in the plugin
	Invalid     Code = "invalid"     // the address or the configuration is wrong
	NotFound    Code = "not found"   // what the address names is not there
	Denied      Code = "denied"      // the other side, or the operator's policy, does not allow it
	Unavailable Code = "unavailable" // the other side cannot be reached or is busy
	Corrupt     Code = "corrupt"     // the data is not what was announced
	Conflict    Code = "conflict"    // there is something else under that name
	Exhausted   Code = "exhausted"   // no room, or a limit is reached
	Unsupported Code = "unsupported" // the plugin does not do this
	NotCopied   Code = "not copied"  // the store does not copy this part, which can move as bytes
)

// Error is the error that a source or sink returns when the code matters. Any other error counts as Internal and not retryable.
type Error struct {
	Code    Code
	Message string // for people; no secrets
	// Retryable says that the same call can succeed later without anyone changing anything.
	Retryable bool
	// RetryAfter is the earliest time to try again, from now. 0: the caller's own backoff.
	RetryAfter time.Duration
	// Part is the name of the part that the failure is about, "" if it is about none. The SDK sets it.
	Part string
	// Fields says which fields are wrong, with Invalid.
	Fields []FieldError
	// Err is the cause, for errors.Is within one process. It does not travel.
	Err error
}

// FieldError says what is wrong with one field of a data address or a configuration.
type FieldError struct {
	Field   string // "" for the whole
	Message string // without the value if the field is sensitive
}

// Errorf returns an Error that is not retryable. An error among args is kept as its cause if format has %w for it.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Retryf is Errorf for an error that can pass by itself.
func Retryf(code Code, format string, args ...any) *Error {
	e := Errorf(code, format, args...)
	e.Retryable = true
	return e
}

// InvalidFields returns nil if fields is empty, otherwise an Error with code Invalid that lists them.
func InvalidFields(fields []FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = f.String()
	}
	return &Error{Code: Invalid, Message: strings.Join(parts, "; "), Fields: fields}
}

func (f FieldError) String() string {
	if f.Field == "" {
		return f.Message
	}
	return f.Field + ": " + f.Message
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// AsError returns err as an *Error: itself if it wraps one, Unavailable and retryable for the end of a context, otherwise Internal.
// It returns nil for nil.
func AsError(err error) *Error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		if message := err.Error(); message != e.Message {
			wrapped := *e
			wrapped.Message, wrapped.Err = message, err
			return &wrapped
		}
		return e
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrInterrupted):
		return &Error{Code: Unavailable, Message: err.Error(), Retryable: true, Err: err}
	default:
		return &Error{Code: Internal, Message: err.Error(), Err: err}
	}
}

// aboutPart says in err which part it is about, unless that is known.
func aboutPart(name string, err error) error {
	if err == nil || errors.Is(err, ErrInterrupted) || errors.Is(err, context.Canceled) {
		return err
	}
	e := *AsError(err)
	if e.Part == "" {
		e.Part, e.Err = name, err
	}
	return &e
}

// ErrInterrupted is what reading an IncomingPart returns when its flow was cut and may be taken up again: by a suspend, a stop of
// the host, or the loss of a process. What a sink kept for a resume has to stay; Deprovision says when it goes.
var ErrInterrupted = errors.New("interrupted")

// ErrFromStart is what Part.Open returns for an offset it cannot begin at. It is then called again with offset 0, and the SDK skips
// what the other side has.
var ErrFromStart = errors.New("can only be read from its start")

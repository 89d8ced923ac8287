package grpcplugin

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// errorCodes maps the codes of errors to those of the protocol, and to the gRPC status that carries them for callers who look no
// further.
var errorCodes = map[sdk.Code]struct {
	wire pluginv1.ErrorCode
	grpc codes.Code
}{
	sdk.Internal:    {pluginv1.ErrorCode_ERROR_CODE_UNSPECIFIED, codes.Internal},
	sdk.Invalid:     {pluginv1.ErrorCode_ERROR_CODE_INVALID, codes.InvalidArgument},
	sdk.NotFound:    {pluginv1.ErrorCode_ERROR_CODE_NOT_FOUND, codes.NotFound},
	sdk.Denied:      {pluginv1.ErrorCode_ERROR_CODE_DENIED, codes.PermissionDenied},
	sdk.Unavailable: {pluginv1.ErrorCode_ERROR_CODE_UNAVAILABLE, codes.Unavailable},
	sdk.Corrupt:     {pluginv1.ErrorCode_ERROR_CODE_CORRUPT, codes.DataLoss},
	sdk.Conflict:    {pluginv1.ErrorCode_ERROR_CODE_CONFLICT, codes.AlreadyExists},
	sdk.Exhausted:   {pluginv1.ErrorCode_ERROR_CODE_EXHAUSTED, codes.ResourceExhausted},
	sdk.Unsupported: {pluginv1.ErrorCode_ERROR_CODE_UNSUPPORTED, codes.Unimplemented},
	sdk.NotCopied:   {pluginv1.ErrorCode_ERROR_CODE_NOT_COPIED, codes.FailedPrecondition},
}

// maxMessage bounds the text of an error on the wire, in bytes.
const maxMessage = 8 << 10

func errorToProto(e *sdk.Error) *pluginv1.Error {
	p := &pluginv1.Error{Code: errorCodes[e.Code].wire, Message: cut(e.Message), Retryable: e.Retryable, Fields: fieldsToProto(e.Fields),
		Part: text(e.Part)}
	if e.RetryAfter > 0 {
		p.RetryAfter = durationpb.New(e.RetryAfter)
	}
	return p
}

func cut(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "..."
	}
	return text(s)
}

// text makes s fit for a string field, which has to be UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func errorFromProto(p *pluginv1.Error) *sdk.Error {
	e := &sdk.Error{Code: sdk.Internal, Message: p.GetMessage(), Retryable: p.GetRetryable(), Fields: fieldsFromProto(p.GetFields()),
		Part: p.GetPart()}
	for code, c := range errorCodes {
		if c.wire == p.GetCode() {
			e.Code = code
		}
	}
	if p.GetRetryAfter() != nil {
		e.RetryAfter = p.RetryAfter.AsDuration()
	}
	return e
}

func fieldsToProto(fields []sdk.FieldError) (out []*pluginv1.FieldError) {
	for _, f := range fields {
		out = append(out, &pluginv1.FieldError{Field: text(f.Field), Message: text(f.Message)})
	}
	return out
}

func fieldsFromProto(fields []*pluginv1.FieldError) (out []sdk.FieldError) {
	for _, f := range fields {
		out = append(out, sdk.FieldError{Field: f.Field, Message: f.Message})
	}
	return out
}

// statusOf returns err as the status of a call: its gRPC code, and all of it as a detail.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	e := sdk.AsError(err)
	s := status.New(errorCodes[e.Code].grpc, cut(e.Message))
	if detailed, err := s.WithDetails(errorToProto(e)); err == nil {
		s = detailed
	}
	return s.Err()
}

// fromStatus returns the error that a call to a plugin gave as an *sdk.Error. ctx is the caller's: if it has ended, its cause is
// returned instead.
func fromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, ok := status.FromError(err)
	if !ok {
		return sdk.AsError(err)
	}
	for _, detail := range s.Details() {
		if p, ok := detail.(*pluginv1.Error); ok {
			return errorFromProto(p)
		}
	}
	e := &sdk.Error{Code: sdk.Internal, Message: s.Message(), Err: err}
	for code, c := range errorCodes {
		if c.grpc == s.Code() {
			e.Code = code
		}
	}
	switch s.Code() {
	case codes.Unavailable, codes.Canceled, codes.Aborted, codes.DeadlineExceeded:
		e.Code, e.Retryable = sdk.Unavailable, true
	case codes.ResourceExhausted, codes.Unimplemented:
		// gRPC's own: a message over the limit, a service that the plugin does not serve. Trying again changes nothing.
		e.Retryable = false
	}
	return e
}

var errNotOpened = errors.New("the first message of a stream has to open it")

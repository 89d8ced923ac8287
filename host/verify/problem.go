package verify

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
)

// problem is a refusal by the plugin: an Error of the protocol, in a stream or as a detail of a status, or a bare status.
type problem struct {
	said    *pluginv1.Error // nil for a bare status
	code    codes.Code      // OK for an Error in a stream
	message string
}

func (p *problem) Error() string {
	switch {
	case p.said == nil:
		return fmt.Sprintf("status %s without an Error as a detail: %s", p.code, p.message)
	case p.said.Retryable:
		return fmt.Sprintf("%s, retryable: %s", codeName(p.said.Code), p.said.Message)
	}
	return fmt.Sprintf("%s: %s", codeName(p.said.Code), p.said.Message)
}

func codeName(c pluginv1.ErrorCode) string { return strings.TrimPrefix(c.String(), "ERROR_CODE_") }

// errCut says that the connection has gone, or that this side has cut it.
var errCut = errors.New("the connection to the plugin is cut")

// problemOf turns the error of a call into a *problem, or into one that wraps errCut.
func problemOf(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	s := status.Convert(err)
	for _, d := range s.Details() {
		if said, ok := d.(*pluginv1.Error); ok {
			return &problem{said: said, code: s.Code(), message: s.Message()}
		}
	}
	switch s.Code() {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return fmt.Errorf("%w: %s", errCut, s.Message())
	}
	return &problem{code: s.Code(), message: s.Message()}
}

// wantRefusal checks that err is a refusal with one of the codes. None: with any.
func wantRefusal(what string, err error, want ...pluginv1.ErrorCode) error {
	var p *problem
	switch {
	case err == nil:
		return fmt.Errorf("%s was accepted", what)
	case !errors.As(err, &p):
		return fmt.Errorf("%s: %w", what, err)
	case len(want) == 0:
		return nil
	case p.said == nil:
		return fmt.Errorf("%s was refused with a %w", what, p)
	case p.said.Message == "":
		return fmt.Errorf("%s was refused without a message", what)
	}
	var names []string
	for _, code := range want {
		if p.said.Code == code {
			return nil
		}
		names = append(names, codeName(code))
	}
	return fmt.Errorf("%s was refused with %q, not with %s", what, p.Error(), strings.Join(names, " or "))
}

// wantTemporary checks that err is a refusal of now: UNAVAILABLE, and that it can be tried again.
func wantTemporary(what string, err error) error {
	if err := wantRefusal(what, err, pluginv1.ErrorCode_ERROR_CODE_UNAVAILABLE); err != nil {
		return err
	}
	if p := (*problem)(nil); errors.As(err, &p) && !p.said.Retryable {
		return fmt.Errorf("%s was refused as if it could not be tried again: %q", what, p.said.Message)
	}
	return nil
}

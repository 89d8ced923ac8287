package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/towpath-dataplane/towpath/sdk"
)

const maxMessage = 512 // bytes of a store's message that are passed on

// failure turns an error of a request into an sdk.Error that says what was attempted, on which key, and nothing that is a secret. An
// error that came from the SDK, or from the end of the flow, keeps its meaning.
func (p *place) failure(ctx context.Context, err error, attempt, key string) error {
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("%s %q", attempt, p.location(key))
	var known *sdk.Error
	switch {
	case errors.As(err, &known):
		return fmt.Errorf("%s: %w", what, known)
	case errors.Is(err, sdk.ErrInterrupted):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	e := &sdk.Error{Message: what + ": " + p.reason(err), Err: err}
	e.Code, e.Retryable = classify(err)
	return e
}

// reason is what the store or the network says, without URLs: the SDK's own text has the request in it.
func (p *place) reason(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		text := api.ErrorCode()
		if status := statusOf(err); status != 0 && text == "" {
			text = http.StatusText(status)
		}
		if m := api.ErrorMessage(); m != "" && m != text {
			text += ": " + m
		}
		return p.clean(text)
	}
	if status := statusOf(err); status >= 300 {
		return fmt.Sprintf("%d %s", status, http.StatusText(status))
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return p.clean(err.Error())
}

var query = regexp.MustCompile(`\?[^\s"']+`)

// clean makes a text of the other side's safe to show.
func (p *place) clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, query.ReplaceAllString(p.hide(text), "?..."))
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "..."
	}
	return text
}

func statusOf(err error) int {
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.Response != nil && resp.Response.Response != nil {
		return resp.HTTPStatusCode()
	}
	return 0
}

// codeOf is the store's code for an error, "" if it is none of the store's.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

type class struct {
	code      sdk.Code
	retryable bool
}

// codes sorts the errors of stores by who can do something about them. What is not listed goes by its status.
var codes = map[string]class{
	"NoSuchKey":                  {sdk.NotFound, false},
	"NoSuchBucket":               {sdk.NotFound, false},
	"NoSuchVersion":              {sdk.NotFound, false},
	"NotFound":                   {sdk.NotFound, false},
	"NoSuchUpload":               {sdk.Corrupt, false},
	"AccessDenied":               {sdk.Denied, false},
	"ExpiredToken":               {sdk.Denied, false},
	"InvalidAccessKeyId":         {sdk.Denied, false},
	"InvalidToken":               {sdk.Denied, false},
	"SignatureDoesNotMatch":      {sdk.Denied, false},
	"RequestTimeTooSkewed":       {sdk.Denied, false},
	"PermanentRedirect":          {sdk.Invalid, false},
	"BadDigest":                  {sdk.Corrupt, true},
	"XAmzContentSHA256Mismatch":  {sdk.Corrupt, true},
	"XAmzContentChecksumInvalid": {sdk.Corrupt, true},
	"InvalidPart":                {sdk.Corrupt, false},
	"EntityTooLarge":             {sdk.Exhausted, false},
	"KeyTooLongError":            {sdk.Invalid, false},
	"QuotaExceeded":              {sdk.Exhausted, true},
	"RequestTimeout":             {sdk.Unavailable, true},
	"OperationAborted":           {sdk.Unavailable, true},
	"ConditionalRequestConflict": {sdk.Unavailable, true},
}

func classify(err error) (sdk.Code, bool) {
	if c, ok := codes[codeOf(err)]; ok {
		return c.code, c.retryable
	}
	switch status := statusOf(err); {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return sdk.Denied, false
	case status == http.StatusNotFound:
		return sdk.NotFound, false
	case status == http.StatusPreconditionFailed:
		return sdk.Conflict, false
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return sdk.Unavailable, true
	case status == http.StatusInsufficientStorage:
		return sdk.Exhausted, true
	case status == http.StatusNotImplemented:
		return sdk.Unsupported, false
	case status >= 300 && status < 500:
		return sdk.Invalid, false
	case isTLSRefusal(err):
		return sdk.Denied, false
	case isSigning(err):
		return sdk.Denied, true
	}
	return sdk.Unavailable, true
}

// isTLSRefusal reports whether the certificate of the other side is not accepted.
func isTLSRefusal(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	return errors.As(err, &verification) || errors.As(err, &authority)
}

// isSigning reports whether a request was not sent for want of credentials, which the default chain may have later.
func isSigning(err error) bool {
	return strings.Contains(err.Error(), "failed to refresh cached credentials") || strings.Contains(err.Error(), "get identity:")
}

// isMissing reports whether an error says that there is no such object.
func isMissing(err error) bool {
	switch codeOf(err) {
	case "NoSuchKey", "NotFound", "NoSuchVersion":
		return true
	}
	return false
}

// isGone reports whether an error says that there is no such upload.
func isGone(err error) bool { return codeOf(err) == "NoSuchUpload" }

// isTaken reports whether an error says that a condition of the request does not hold.
func isTaken(err error) bool {
	return codeOf(err) == "PreconditionFailed" || statusOf(err) == http.StatusPreconditionFailed
}

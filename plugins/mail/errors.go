package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/towpath-dataplane/towpath/sdk"
)

const maxWords = 300 // bytes of a server's answer that are passed on

// failure turns an error of a connection into an sdk.Error that says what was attempted, with the server's words. What the server
// refuses for now can be tried again; what it refuses for good cannot.
func (s *settings) failure(ctx context.Context, err error, attempt string) error {
	var known *sdk.Error
	var refused *smtp.SMTPError
	var untrusted *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case ctx.Err() != nil:
		return sdk.ErrInterrupted
	case errors.As(err, &known):
		return sdk.Errorf(known.Code, "%s: %w", attempt, known)
	case errors.As(err, &refused):
		return s.refusal(refused, attempt)
	case errors.As(err, &untrusted), errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, &record):
		return sdk.Errorf(sdk.Denied, "%s: TLS: %s", attempt, s.words(err.Error()))
	case strings.Contains(err.Error(), "doesn't support STARTTLS"): // the library has no value for it
		return sdk.Errorf(sdk.Unsupported, "%s: the server offers no STARTTLS", attempt)
	}
	e := sdk.Retryf(sdk.Unavailable, "%s: %s", attempt, s.words(err.Error()))
	e.Err = errLost
	return e
}

// errLost is in the chain of what a connection failed with that was there before.
var errLost = errors.New("the connection is lost")

// lost reports whether a connection ended, or the server said that it ends it.
func lost(err error) bool { return errors.Is(err, errLost) }

func (s *settings) refusal(r *smtp.SMTPError, attempt string) error {
	said := fmt.Sprint(r.Code)
	if r.EnhancedCode != smtp.NoEnhancedCode && r.EnhancedCode != smtp.EnhancedCodeNotSet {
		said += fmt.Sprintf(" %d.%d.%d", r.EnhancedCode[0], r.EnhancedCode[1], r.EnhancedCode[2])
	}
	e := sdk.Errorf(refusalCode(r), "%s: the mail server says: %s %s", attempt, said, s.words(r.Message))
	if e.Retryable = r.Temporary(); r.Code == 421 {
		e.Err = errLost
	}
	return e
}

func refusalCode(r *smtp.SMTPError) sdk.Code {
	tooMuch := r.EnhancedCode[1] == 3 && r.EnhancedCode[2] == 4 || r.EnhancedCode[1] == 2 && (r.EnhancedCode[2] == 2 || r.EnhancedCode[2] == 3)
	switch {
	case r.Code == 452, r.Code == 552, tooMuch:
		return sdk.Exhausted
	case r.Temporary():
		return sdk.Unavailable
	}
	return sdk.Denied
}

// words are those of a server on one line, without what it may have been told in confidence.
func (s *settings) words(text string) string {
	if s.Password != "" {
		encode := base64.StdEncoding.EncodeToString
		for _, secret := range []string{s.Password, encode([]byte(s.Password)), encode([]byte("\x00" + s.Username + "\x00" + s.Password))} {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return limited(oneLine(strings.ToValidUTF8(text, "")), maxWords)
}

package config

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Secret is a text that must not be shown: printed, logged or marshalled it is "(sensitive)", or "" if there is none.
type Secret struct {
	text *string // not the text itself, which fmt would show where it may not call Format
}

// redacted stands for a secret wherever one would be shown.
const redacted = "(sensitive)"

// Reveal returns the text. It is never empty unless there is none.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is none.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal reports whether two secrets are the same.
func (s Secret) Equal(other Secret) bool { return s.Reveal() == other.Reveal() }

// String does not show the text.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// Format does not show the text, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText does not show the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// setSecret is set for an attribute that is a secret: it has to come from secret(), and no diagnostic about it shows the source.
func setSecret(f fields, name string, into *Secret, check func(string) error) bool {
	attr, ok := f.attrs[name]
	if !ok {
		return false
	}
	defer f.hideFrom(len(f.diags))
	v, ok := f.eval(attr)
	if !ok {
		return false
	}
	if !v.sensitive {
		f.report(v.at, "Secret required", "%s: %s.", name, fromSecret)
		return false
	}
	s, ok := f.secret(name, v, check)
	if ok {
		*into = s
	}
	return ok
}

const fromSecret = `it has to come from a file that only its owner may read: secret("path")`

// secret reads a value that must not be shown.
func (d *decoder) secret(name string, v value, check func(string) error) (Secret, bool) {
	s, err := text(v.Value)
	if err == nil {
		err = check(s)
	}
	if err != nil {
		d.report(v.at, "Unsuitable value", "%s: %v.", name, err)
		return Secret{}, false
	}
	return Secret{text: &s}, true
}

// hideFrom takes the source off the diagnostics from the n-th on.
func (d *decoder) hideFrom(n int) {
	for _, diag := range d.diags[n:] {
		diag.Extra, diag.Expression, diag.EvalContext = hideSource, nil, nil
	}
}

// The functions that follow say what a secret has to be like. Their errors do not contain it.

// headerValue says whether a text can be sent as the value of an HTTP header.
func headerValue(s string) error {
	switch {
	case s == "":
		return errors.New("it is empty")
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }):
		return errors.New("it has a line break, or another letter that no HTTP header can carry")
	case strings.TrimSpace(s) != s:
		return errors.New("it begins or ends with a space")
	}
	return nil
}

// bearerToken says whether a text can be sent behind "Bearer ".
func bearerToken(s string) error {
	err := headerValue(s)
	switch {
	case err != nil:
		return err
	case len(s) > 7 && strings.EqualFold(s[:7], "Bearer "):
		return errors.New(`it begins with "Bearer", which is added`)
	case strings.Contains(s, " "):
		return errors.New("it has a space in it, so it is not a token")
	}
	return nil
}

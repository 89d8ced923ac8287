package main

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Longest texts of an address, in bytes.
const (
	maxSubject = 500
	maxText    = 64 << 10
)

func addressSchema() sdk.Schema {
	return sdk.Schema{Fields: []sdk.Field{
		{Name: "recipient", Required: true, Documentation: "Mail address to send to, or several, separated by commas: `them@consumer.example, " +
			"Archive <archive@consumer.example>`. A mail goes to all of them, or to none."},
		{Name: "subject", Documentation: "Subject. Default: `File transfer`, and the flow's id."},
		{Name: "sender", Documentation: "Sender, where the operator allows it. Default: the operator's."},
		{Name: "text", Documentation: "Text of the mails, before the attachment. Default: a line that names the part and the flow."},
	}}
}

// destination is a data address, read.
type destination struct {
	sender  *mail.Address
	to      []*mail.Address
	subject string // "" if the address has none
	text    string
}

// destination reads an address. Its error lists all that is wrong.
func (s *settings) destination(a sdk.DataAddress) (destination, error) {
	var fields []sdk.FieldError
	refuse := func(field string, err error) {
		fields = append(fields, sdk.FieldError{Field: field, Message: err.Error()})
	}
	d := destination{subject: a.Get("subject"), text: a.Get("text")}
	var err error
	if d.to, err = s.parseRecipients(a.Get("recipient")); err != nil {
		refuse("recipient", err)
	}
	if d.sender, err = s.parseSender(a.Get("sender")); err != nil {
		refuse("sender", err)
	}
	if err := checkText(d.subject, maxSubject, ""); err != nil {
		refuse("subject", err)
	}
	if err := checkText(d.text, maxText, "\r\n\t"); err != nil {
		refuse("text", err)
	}
	return d, sdk.InvalidFields(fields)
}

func (s *settings) parseRecipients(list string) ([]*mail.Address, error) {
	parsed, err := mail.ParseAddressList(list)
	if err != nil {
		return nil, errors.New("is not a list of mail addresses")
	}
	if len(parsed) > s.MaxRecipients {
		return nil, fmt.Errorf("has %d mail addresses, more than %d", len(parsed), s.MaxRecipients)
	}
	for _, a := range parsed {
		if err := checkAddress(a); err != nil {
			return nil, err
		}
		if s.recipients != nil && !s.recipients.MatchString(a.Address) {
			return nil, fmt.Errorf("%s is not one that this data plane may send to", a.Address)
		}
	}
	return parsed, nil
}

func (s *settings) parseSender(sender string) (*mail.Address, error) {
	own, err := parseAddress(s.Sender)
	if err != nil {
		return nil, errors.New("this plugin is not configured")
	}
	if sender == "" {
		return own, nil
	}
	a, err := parseAddress(sender)
	switch {
	case err != nil:
		return nil, err
	case !strings.EqualFold(a.Address, own.Address) && (s.senders == nil || !s.senders.MatchString(a.Address)):
		return nil, fmt.Errorf("%s is not one that this data plane may send from", a.Address)
	}
	return a, nil
}

// parseAddress reads one mail address, with or without a name before it.
func parseAddress(text string) (*mail.Address, error) {
	a, err := mail.ParseAddress(text)
	if err != nil {
		return nil, errors.New("is not a mail address")
	}
	return a, checkAddress(a)
}

// checkAddress lets addresses through that are safe in a command and in a header field, as they are: those that need no quotes.
func checkAddress(a *mail.Address) error {
	local, domain, _ := strings.Cut(a.Address, "@")
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
	switch {
	case len(local) > 64, len(a.Address) > 254, len(a.Name) > 200:
		return errors.New("is longer than a mail address may be")
	case local == "", strings.Trim(local, letters+"!#$%&'*+/=?^_`{|}~") != "", domain == "", strings.Trim(domain, letters) != "":
		return fmt.Errorf("%q is not a mail address in plain ASCII", a.Address)
	}
	return checkText(a.Name, 200, "")
}

// checkText refuses control characters but for some.
func checkText(text string, most int, allowed string) error {
	if len(text) > most {
		return fmt.Errorf("has more than %d bytes", most)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune(allowed, r) }) {
		return errors.New("has control characters or is not UTF-8")
	}
	return nil
}

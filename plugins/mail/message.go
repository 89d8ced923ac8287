package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/towpath-dataplane/towpath/sdk"
)

// message is the mail of one part: what stands before and behind the lines of its attachment.
type message struct {
	id   string // Message-ID with its brackets
	head []byte
	tail []byte
}

// newMessage writes the mail of a part. Whatever came from a peer is encoded: no value can end its header field.
func newMessage(d destination, flow sdk.FlowContext, p sdk.PartInfo, now time.Time) message {
	key := messageKey(flow, p)
	_, domain, _ := strings.Cut(d.sender.Address, "@")
	m := message{id: fmt.Sprintf("<%s@%s>", key, domain)}
	// Neither base64 nor quoted-printable has "=_" in a line.
	boundary := "=_" + key
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	field("Date", now.Format(time.RFC1123Z))
	field("From", d.sender.String())
	field("To", listed(d.to))
	field("Subject", encodeText(cmp.Or(d.subject, "File transfer "+flow.ID)))
	field("Message-ID", m.id)
	field("Auto-Submitted", "auto-generated")
	field("MIME-Version", "1.0")
	field("Content-Type", `multipart/mixed; boundary="`+boundary+`"`)
	b.WriteString("\r\n--" + boundary + "\r\n")
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	text := quotedprintable.NewWriter(&b)
	text.Write([]byte(cmp.Or(d.text, fmt.Sprintf("Attached is %q of the data flow %q.", p.Name, flow.ID)))) // to memory
	text.Close()
	b.WriteString("\r\n--" + boundary + "\r\n")
	field("Content-Type", attachmentType(p.MediaType))
	field("Content-Transfer-Encoding", "base64")
	field("Content-Disposition", "attachment"+parameter("filename", p.Name))
	b.WriteString("\r\n")
	m.head = b.Bytes()
	m.tail = []byte("--" + boundary + "--\r\n")
	return m
}

// size of the whole mail, for an attachment of n bytes.
func (m message) size(n int64) int64 { return int64(len(m.head)) + encodedSize(n) + int64(len(m.tail)) }

// messageKey is equal for the same content of the same part of the same flow, as far as the source tells contents apart.
func messageKey(flow sdk.FlowContext, p sdk.PartInfo) string {
	h := sha256.New()
	for _, s := range []string{flow.ParticipantContext, flow.ID, fmt.Sprint(p.Index), p.Name, p.Validator} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:20])
}

// listed has one address a line, so that no line gets too long.
func listed(all []*mail.Address) string {
	texts := make([]string, len(all))
	for i, a := range all {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",\r\n ")
}

// encodeText encodes what is not plain ASCII as words of RFC 2047, one a line.
func encodeText(s string) string {
	return strings.ReplaceAll(mime.QEncoding.Encode("utf-8", limited(s, maxSubject)), "?= =?", "?=\r\n =?")
}

// limited cuts a text between two characters.
func limited(s string, most int) string {
	for len(s) > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// attachmentType is the media type of the part, if it is one that base64 can carry.
func attachmentType(mediaType string) string {
	const other = "application/octet-stream"
	name, parameters, err := mime.ParseMediaType(mediaType)
	if err != nil || len(mediaType) > 500 || strings.HasPrefix(name, "multipart/") || strings.HasPrefix(name, "message/") {
		return other
	}
	return cmp.Or(strings.ReplaceAll(mime.FormatMediaType(name, parameters), "; ", ";\r\n "), other)
}

// parameter writes a parameter of a header field by RFC 2231, in pieces of a line each. A short plain value is quoted.
func parameter(name, value string) string {
	if len(value) <= 60 && strings.Trim(value, plainLetters+" ()[]{}<>,;:@/?=") == "" {
		return ";\r\n " + name + `="` + value + `"`
	}
	var b strings.Builder
	line := "UTF-8''"
	for n, i := 0, 0; ; n++ {
		for ; i < len(value) && len(line) < 60; i++ {
			if c := value[i]; strings.IndexByte(plainLetters, c) >= 0 {
				line += string(c)
			} else {
				line += fmt.Sprintf("%%%02X", c)
			}
		}
		fmt.Fprintf(&b, ";\r\n %s*%d*=%s", name, n, line)
		if line = ""; i == len(value) {
			return b.String()
		}
	}
}

// plainLetters need no encoding in a parameter.
const plainLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"

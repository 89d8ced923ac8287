package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	maxMessage    = 512 // runes of a peer's message that are passed on
	maxRetryAfter = 24 * time.Hour
)

// statusError is the error for an answer that refuses a request. hide removes secrets from what the peer says.
func statusError(what string, resp *http.Response, maxBody int64, hide func(string) string) *sdk.Error {
	e := &sdk.Error{Message: fmt.Sprintf("%s: %d", what, resp.StatusCode)}
	if text := http.StatusText(resp.StatusCode); text != "" {
		e.Message += " " + text
	}
	if said := printable(hide(peerMessage(resp, maxBody))); said != "" {
		e.Message += ": " + said
	}
	e.RetryAfter = retryAfter(resp.Header, time.Now())
	e.Code, e.Retryable = classify(resp.StatusCode)
	// What the peer expects to pass: a flow that has not started yet, a lock, a body of which the network has lost the end.
	passes := resp.StatusCode == http.StatusConflict || resp.StatusCode == http.StatusBadRequest
	e.Retryable = e.Retryable || passes && e.RetryAfter > 0
	return e
}

// classify sorts statuses by who can do something about them.
func classify(status int) (code sdk.Code, retryable bool) {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return sdk.Denied, false
	case http.StatusNotFound, http.StatusGone:
		return sdk.NotFound, false
	case http.StatusConflict, http.StatusPreconditionFailed:
		return sdk.Conflict, false
	case http.StatusRequestEntityTooLarge:
		return sdk.Exhausted, false
	case http.StatusInsufficientStorage:
		return sdk.Exhausted, true
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return sdk.Unavailable, true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return sdk.Unsupported, false
	}
	if status >= 500 {
		return sdk.Unavailable, true
	}
	return sdk.Invalid, false
}

// retryAfter reads Retry-After, which is a number of seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			now = date // the peer's clock, to which its date belongs
		}
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// peerMessage returns what the body of a refusal says, if it says it in plain text or JSON.
func peerMessage(resp *http.Response, maxBody int64) string {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // what came before an error is better than nothing
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	trimmed := bytes.TrimSpace(body)
	switch {
	case mediaType == "application/json" || strings.HasSuffix(mediaType, "+json"), bytes.HasPrefix(trimmed, []byte("{")):
		return jsonMessage(trimmed)
	case mediaType == "text/plain":
		return string(trimmed)
	}
	return ""
}

// jsonMessage finds the message in the shapes that servers use: problem details (detail, title), EDC and others (message, errors).
func jsonMessage(body []byte) string {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return textOf(body)
	}
	for _, name := range []string{"detail", "message", "errors", "title", "error_description", "error"} {
		if text := textOf(members[name]); text != "" {
			return text
		}
	}
	return ""
}

// textOf returns a JSON string, the message of an object, or those of an array's elements.
func textOf(value json.RawMessage) string {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil {
		return objectText(value)
	}
	var texts []string
	for _, element := range list {
		if t := objectText(element); t != "" {
			texts = append(texts, t)
		}
	}
	return strings.Join(texts, "; ")
}

func objectText(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	var object struct{ Detail, Message, Title string }
	if json.Unmarshal(value, &object) != nil {
		return ""
	}
	return cmp.Or(object.Detail, object.Message, object.Title)
}

// printable makes a text safe for a terminal and a log line, and cuts it.
func printable(s string) string {
	var b strings.Builder
	count := 0
	for _, word := range strings.FieldsFunc(s, isUnprintable) {
		if b.Len() > 0 {
			b.WriteByte(' ')
			count++
		}
		for _, r := range word {
			if count == maxMessage {
				return b.String() + "..."
			}
			b.WriteRune(r)
			count++
		}
	}
	return b.String()
}

func isUnprintable(r rune) bool {
	return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == utf8.RuneError
}

package signaling

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// failure says why a request to a control plane failed.
type failure struct {
	text       string        // for the operator; repeats no secret
	final      bool          // no retry can change it
	retryAfter time.Duration // what the control plane asked for, or 0
}

// maxResponse is how much of an answer is read, in bytes, whose content is of use to people only.
const maxResponse = 4 << 10

// judge sorts the answer to a callback: it has arrived, or it may arrive later, or never will. faults is how many answers before this
// one were 500 without a word.
func judge(answer *reply, p Protocol, c flow.Callback, faults int, now time.Time) *failure {
	code := answer.StatusCode
	arrived, final := code/100 == 2, code/100 == 4 && !passing[code]
	if p != nil {
		arrived, final = p.Verdict(code, now.Sub(c.Created))
	}
	if arrived {
		return nil
	}
	f := refusal(answer, c.DataAddress == nil, now)
	f.final = final
	ended := endedState(answer)
	switch {
	case ended == string(flow.Completed) && c.Kind == flow.CallbackCompleted: // it knows
		return nil
	case ended != "":
		f.text += "; the transfer is " + ended + " there, so this is not sent again"
		f.final = true
	case p == nil && muteFault(answer) && faults+1 >= maxFaults:
		f.text += " without a word, " + strconv.Itoa(maxFaults) + " times in a row; the control plane has moved on, so this is not sent again"
		f.final = true
	}
	return f
}

// maxFaults is how many times a control plane answers a callback with 500 and no body before that counts as its last word: some do so
// for ever for what comes at the wrong time.
const maxFaults = 8

// muteFault reports whether an answer is a 500 without a body.
func muteFault(answer *reply) bool {
	return answer.StatusCode == http.StatusInternalServerError && len(answer.body) == 0
}

// ended is how EDC says that it is over: "Could not execute … on TransferProcess with ID [..] because it's TERMINATED". A state that is
// merely quoted is not meant.
var ended = regexp.MustCompile(`\b(?:is|it's|is already|in state)\s+['"\[]?(COMPLETED|TERMINATED)\b`)

// endedState is the final state in which an answer says that the transfer is, "" if it does not.
func endedState(answer *reply) string {
	if answer.StatusCode != http.StatusConflict {
		return ""
	}
	body := strings.NewReplacer(`\u0027`, "'", "’", "'", `\"`, `"`).Replace(string(answer.body))
	if found := ended.FindStringSubmatch(body); found != nil {
		return found[1]
	}
	return ""
}

// refusal describes an answer that is not a success. quote says that what it says may be repeated.
func refusal(answer *reply, quote bool, now time.Time) *failure {
	text := "answered " + statusText(answer.StatusCode)
	switch {
	case answer.StatusCode/100 == 3:
		text += redirectTo(answer.Response) + "; redirects are not followed, so the control plane's endpoint has to be corrected"
	case quote && len(answer.body) > 0 && !answer.repeatsCredential(): // an answer may quote what it refuses
		text += ": " + printable(string(answer.body))
	}
	return &failure{text: text, retryAfter: askedDelay(answer.Header, now)}
}

func statusText(code int) string {
	text := strconv.Itoa(code)
	if name := http.StatusText(code); name != "" {
		text += " " + name
	}
	return text
}

// passing are the client errors that go away: the control plane may not know the flow yet, or be busy with it, or be about to get
// other credentials.
var passing = map[int]bool{
	http.StatusUnauthorized:    true,
	http.StatusForbidden:       true,
	http.StatusNotFound:        true,
	http.StatusRequestTimeout:  true,
	http.StatusConflict:        true,
	http.StatusTooEarly:        true,
	http.StatusTooManyRequests: true,
}

// redirectTo names the host of a redirect, not its path or query, which may be for one reader only.
func redirectTo(response *http.Response) string {
	to, err := response.Location()
	if err != nil || to.Host == "" {
		return ""
	}
	return " to " + printable(to.Scheme+"://"+to.Host)
}

// askedDelay reads Retry-After: seconds or a date. 0 if there is none.
func askedDelay(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// printable makes one short line of a peer's text.
func printable(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		default:
			return r
		}
	}, strings.ToValidUTF8(text, ""))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

package signaling

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// deliver makes one attempt and records its outcome. If ctx ends during the attempt, the callback stays as it is.
func (r *run) deliver(ctx context.Context, cp ControlPlane, c flow.Callback) {
	failed := r.attempt(ctx, cp, c)
	if failed != nil && ctx.Err() != nil {
		return
	}
	now := r.clock()
	c = after(cp, c, now, failed)
	r.logAttempt(ctx, c)
	r.metrics.settled(c, now)
	r.settle(ctx, c)
}

// failure says why an attempt failed.
type failure struct {
	text       string        // for the operator; repeats no secret
	final      bool          // no retry can change it
	retryAfter time.Duration // what the control plane asked for, or 0
}

// attempt sends a callback once. It returns nil if the callback arrived.
func (r *run) attempt(ctx context.Context, cp ControlPlane, c flow.Callback) *failure {
	if cp.Endpoint == "" {
		return &failure{text: fmt.Sprintf("control plane %q is not configured", c.ControlPlane)}
	}
	ctx, cancel := context.WithTimeout(ctx, cp.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, callbackURL(cp.Endpoint, c), bytes.NewReader(callbackBody(c)))
	if err != nil {
		return &failure{text: "the callback's URL is not valid"}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := r.http.Do(request)
	if err != nil {
		return &failure{text: sendFailure(err, cp.Timeout)}
	}
	defer response.Body.Close()
	return r.judge(response, c)
}

func callbackURL(endpoint string, c flow.Callback) string {
	return strings.TrimRight(endpoint, "/") + "/transfers/" + url.PathEscape(c.Key.ID) + "/dataflow/" + string(c.Kind)
}

func callbackBody(c flow.Callback) []byte {
	return encode(statusMessage{
		MessageID:   c.MessageID,
		DataFlowID:  c.Key.ID,
		State:       c.State,
		DataAddress: encodeAddress(c.DataAddress),
		Error:       c.Error,
	})
}

// sendFailure describes an error of http.Client.Do without the URL, which the operator knows.
func sendFailure(err error, timeout time.Duration) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %v", timeout)
	}
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return printable(err.Error())
}

// maxResponse is how much of an answer is read, in bytes. Its content is of use to people only.
const maxResponse = 4 << 10

// judge sorts an answer: the callback has arrived, or it may arrive later, or never will.
func (r *run) judge(response *http.Response, c flow.Callback) *failure {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxResponse)) // what there is
	code := response.StatusCode
	if code/100 == 2 {
		return nil
	}
	text := "answered " + strconv.Itoa(code)
	if name := http.StatusText(code); name != "" {
		text += " " + name
	}
	switch {
	case code/100 == 3:
		text += redirectTo(response) + "; redirects are not followed, so the control plane's endpoint has to be corrected"
	case c.DataAddress == nil && len(body) > 0: // an answer may quote what it refuses
		text += ": " + printable(string(body))
	}
	return &failure{text: text, final: code/100 == 4 && !passing[code], retryAfter: askedDelay(response.Header, r.clock())}
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

// after returns a callback as it stands after an attempt that ended at now. failed is nil if it arrived.
func after(cp ControlPlane, c flow.Callback, now time.Time, failed *failure) flow.Callback {
	c.Attempts++
	if failed == nil {
		c.Status, c.LastErr = flow.CallbackDelivered, ""
		return c
	}
	c.LastErr = failed.text
	end := c.Created.Add(cp.GiveUpAfter)
	if failed.final || !now.Before(end) {
		c.Status = flow.CallbackFailed
		return c
	}
	c.Next = now.Add(max(backoff(c.Attempts), min(failed.retryAfter, maxRetryAfter)))
	if c.Next.After(end) { // one last time
		c.Next = end
	}
	return c
}

const (
	firstBackoff  = time.Second
	maxBackoff    = 5 * time.Minute
	maxRetryAfter = time.Hour
)

// backoff returns the delay after a number of failed attempts: random, below a bound that doubles each time, so that callbacks that
// failed together do not come back together.
func backoff(attempts int) time.Duration {
	bound := maxBackoff
	if doublings := attempts - 1; doublings < 9 {
		bound = min(maxBackoff, firstBackoff<<doublings)
	}
	return 1 + rand.N(bound)
}

func (r *run) logAttempt(ctx context.Context, c flow.Callback) {
	attrs := []slog.Attr{
		slog.String("flow", c.Key.String()),
		slog.String("control_plane", c.ControlPlane),
		slog.String("callback", string(c.Kind)),
		slog.Int("attempts", c.Attempts),
	}
	switch c.Status {
	case flow.CallbackDelivered:
		r.log.LogAttrs(ctx, slog.LevelInfo, "callback delivered", attrs...)
	case flow.CallbackFailed:
		r.log.LogAttrs(ctx, slog.LevelError, "callback given up", append(attrs, slog.String("err", c.LastErr))...)
	default:
		r.log.LogAttrs(ctx, slog.LevelWarn, "callback not delivered", append(attrs, slog.String("err", c.LastErr), slog.Time("next", c.Next))...)
	}
}

// settleTimeout is for recording an outcome, also while the dispatcher stops.
const settleTimeout = 5 * time.Second

// settle records an outcome. It tries until it succeeds or ctx has ended, since the callback would be sent again otherwise.
func (r *run) settle(ctx context.Context, c flow.Callback) {
	for attempts := 1; ; attempts++ {
		err := r.settleOnce(ctx, c)
		if err == nil {
			return
		}
		r.log.ErrorContext(ctx, "the outcome of a callback cannot be stored", "flow", c.Key.String(), "callback", string(c.Kind), "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff(attempts)):
		}
	}
}

func (r *run) settleOnce(ctx context.Context, c flow.Callback) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return r.outbox.Settle(ctx, c)
}

package signaling

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// deliver makes one attempt and records its outcome. If ctx ends during the attempt, the callback stays as it is.
func (r *run) deliver(ctx context.Context, m *member, c flow.Callback) {
	failed := r.attempt(ctx, m, c)
	if failed != nil && ctx.Err() != nil {
		return
	}
	now := r.clock()
	c = after(m.GiveUpAfter, c, now, failed)
	r.logAttempt(ctx, c)
	r.metrics.settled(c, now)
	if c.Status != flow.CallbackPending {
		r.forget(c)
	}
	r.settle(ctx, c)
}

// attempt sends a callback once. It returns nil if the callback arrived.
func (r *run) attempt(ctx context.Context, m *member, c flow.Callback) *failure {
	if m.peer == nil {
		return &failure{text: fmt.Sprintf("control plane %q is not known", c.ControlPlane)}
	}
	to, body := m.callback(c)
	answer, failed := m.peer.exchange(ctx, http.MethodPost, to, body, maxResponse)
	if failed != nil {
		r.forget(c)
		return failed
	}
	return judge(answer, m.Protocol, c, r.countFault(c, muteFault(answer)), r.clock())
}

// countFault counts the answers in a row to a callback that were 500 without a word, and returns how many there were before this one.
func (r *run) countFault(c flow.Callback, mute bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !mute {
		delete(r.faults, c.ID)
		return 0
	}
	if len(r.faults) >= maxFaulty { // with some that were withdrawn
		clear(r.faults)
	}
	r.faults[c.ID]++
	return r.faults[c.ID] - 1
}

// maxFaulty bounds the callbacks of which such answers are counted.
const maxFaulty = 100_000

func (r *run) forget(c flow.Callback) { r.countFault(c, false) }

// transferURL is the URL of something below a transfer at a control plane.
func transferURL(endpoint, id, what string) string {
	return strings.TrimRight(endpoint, "/") + "/transfers/" + url.PathEscape(id) + "/" + what
}

func callbackURL(endpoint string, c flow.Callback) string {
	return transferURL(endpoint, c.Key.ID, "dataflow/"+string(c.Kind))
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

// after returns a callback as it stands after an attempt that ended at now. failed is nil if it arrived.
func after(giveUpAfter time.Duration, c flow.Callback, now time.Time, failed *failure) flow.Callback {
	c.Attempts++
	if failed == nil {
		c.Status, c.LastErr = flow.CallbackDelivered, ""
		return c
	}
	c.LastErr = failed.text
	end := c.Created.Add(giveUpAfter)
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

package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Errors that callers test for.
var (
	// ErrQuarantined says that a plugin crashed again and again, and is not launched by itself.
	ErrQuarantined = errors.New("in quarantine")
	// ErrNotQuarantined says that there is nothing to release a plugin from.
	ErrNotQuarantined = errors.New("is not in quarantine")
)

// defaultQuarantineAfter is what QuarantineAfter is where it is not set.
const defaultQuarantineAfter = 5

// Quarantine is the state of a plugin that crashed again and again. It lasts until the plugin's file is replaced, or someone says so, or the
// host ends. It is an error, which wraps ErrQuarantined.
type Quarantine struct {
	Since   time.Time
	Crashes int           // that led to it
	Within  time.Duration // from the first to the last
	Exit    Exit          // the last
	Do      string        // what can be done

	over chan struct{} // closed when it has ended
	end  func()
}

func (q *Quarantine) Error() string {
	return fmt.Sprintf("%v since %s, after %d crashes in %s; the last: %s; %s", ErrQuarantined, q.Since.UTC().Format(time.RFC3339), q.Crashes,
		q.Within.Round(time.Millisecond), q.Exit, q.Do)
}

// Unwrap returns ErrQuarantined.
func (q *Quarantine) Unwrap() error { return ErrQuarantined }

// Passed returns a channel that is closed when the cause of an error of a call has passed, nil if nobody can know.
func Passed(err error) <-chan struct{} {
	if q := (*Quarantine)(nil); errors.As(err, &q) {
		return q.over
	}
	return nil
}

// judge puts the plugin into quarantine if its crashes are too many, and no flow is to blame for them. w.mu is held.
//
// Crashes count until a process has run steadily, those while it was launched half, those that one flow was found to be the cause of not.
// If several flows were, and no flow at all has got any further meanwhile, it is the plugin after all.
func (w *ward) judge() {
	weight, ready, culprits := 0, 0, map[tenant]bool{}
	for _, c := range w.crashes {
		switch {
		case c.launch:
			weight++
		case !c.blamed && !c.search:
			weight += 2
		}
		if !c.launch {
			ready++
		}
		if c.culprit != (tenant{}) {
			culprits[c.culprit] = true
		}
	}
	if w.quarantine.Load() != nil || len(w.crashes) == 0 {
		return
	}
	first, last := w.crashes[0], w.crashes[len(w.crashes)-1]
	everyone := ready >= w.limit && len(culprits) > 1 && w.life.Load() < first.at.UnixNano()
	if weight < 2*w.limit && !everyone {
		return
	}
	q := &Quarantine{Since: time.Now(), Crashes: len(w.crashes), Within: last.at.Sub(first.at), Exit: last.exit, over: make(chan struct{}),
		Do: fmt.Sprintf("replace its file, or launch it again: towpath plugins release %s", w.name)}
	q.end = sync.OnceFunc(func() { close(q.over) })
	w.quarantine.Store(q)
	w.log.Error("plugin is in quarantine and not launched any more", "crashes", q.Crashes, "within", q.Within.Round(time.Millisecond),
		"status", q.Exit.Status, "signal", q.Exit.Signal, "stderr", strings.Join(q.Exit.Stderr, "\n"), "do", q.Do)
}

// quarantined returns the quarantine that the plugin is in; nil if it is in none.
func (w *ward) quarantined() *Quarantine {
	if w == nil {
		return nil
	}
	return w.quarantine.Load()
}

// refusal is what calls are told while the plugin is in quarantine.
func (w *ward) refusal() error {
	q := w.quarantined()
	if q == nil { // no longer
		return sdk.Retryf(sdk.Unavailable, "plugin %s is launched again", w.name)
	}
	e := sdk.Retryf(sdk.Unavailable, "plugin %s is %w", w.name, q)
	e.RetryAfter = w.pace.rarely
	return e
}

// release ends the quarantine, and forgets what led to it. It reports whether there was one.
func (w *ward) release() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.quarantine.Load()
	if q == nil {
		return false
	}
	w.quarantine.Store(nil)
	w.crashes, w.suspects = nil, map[tenant]*suspect{}
	w.watched.Store(0)
	q.end()
	return true
}

// close wakes those who wait for the end of the quarantine: there is another generation, or none.
func (w *ward) close() {
	if q := w.quarantined(); q != nil {
		q.end()
	}
}

// Release ends the quarantine of a plugin, and returns when its process has become ready or has failed once; the error says that it has.
// The other errors wrap ErrUnknown and ErrNotQuarantined.
func (h *Host) Release(ctx context.Context, name string) error {
	h.mu.Lock()
	g := h.plugins[name]
	h.mu.Unlock()
	if g == nil {
		return fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if !g.ward.release() {
		return fmt.Errorf("plugin %s %w", name, ErrNotQuarantined)
	}
	h.log.Info("plugin is released from quarantine", "plugin", name)
	return g.settled(ctx)
}

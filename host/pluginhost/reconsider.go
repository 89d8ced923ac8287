package pluginhost

import (
	"context"
	"fmt"
)

// Inspect looks at the file of a plugin and decides anew whether it may be executed. It executes nothing. The error wraps ErrUnknown, or
// says that the directory cannot be read.
func (h *Host) Inspect(name string) (Candidate, error) { return h.candidate(name) }

// Reconsider decides anew about a plugin, after what its trust rests on has changed: one that is in use and may not be is stopped, as
// gently as its settings allow; one that may be and is not is taken into use, if Start was called. It returns what is known of the file
// when that is done, or ctx has ended. The error says why a plugin that may be used cannot be.
func (h *Host) Reconsider(ctx context.Context, name string) (Candidate, error) {
	c, err := h.candidate(name)
	h.mu.Lock()
	running := h.started && !h.closed
	h.mu.Unlock()
	if err != nil || !running {
		return c, err
	}
	if err := h.Rescan(ctx); err != nil {
		return c, err
	}
	if c, err = h.candidate(name); err != nil {
		return c, err
	}
	h.withdrawUndecided(c)
	if c.Status != StatusReady {
		return c, h.rested(ctx, name)
	}
	return c, h.used(ctx, c)
}

// withdrawUndecided takes a plugin out of use whose file has been replaced since, if nobody trusts it any more.
func (h *Host) withdrawUndecided(c Candidate) {
	h.mu.Lock()
	g := h.plugins[c.Name]
	h.mu.Unlock()
	if g == nil || g.is(c) || h.options.Trust != TrustAsk || g.settings.SHA256 != "" || g.settings.Publisher != "" {
		return
	}
	if _, decided, err := h.options.Decisions(c.Name); err == nil && !decided {
		h.withdraw(c.Name, "it is trusted no more", atOnce)
	}
}

// rested waits until the builds of a plugin that take no new flow have come to rest.
func (h *Host) rested(ctx context.Context, name string) error {
	h.mu.Lock()
	var ending []*generation
	for g := range h.retiring {
		if g.Name == name {
			ending = append(ending, g)
		}
	}
	h.mu.Unlock()
	for _, g := range ending {
		select {
		case <-g.finished:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// used waits until a file has been taken into use, and says why it was not.
func (h *Host) used(ctx context.Context, c Candidate) error {
	if err := h.lookout.refused(c); err != nil {
		return err
	}
	h.mu.Lock()
	g := h.plugins[c.Name]
	h.mu.Unlock()
	if g == nil {
		return nil
	}
	if err := g.settled(ctx); err != nil {
		return fmt.Errorf("launch it: %w", err)
	}
	return nil
}

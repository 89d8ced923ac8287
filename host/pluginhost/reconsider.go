package pluginhost

import (
	"context"
	"fmt"
)

// Inspect looks at the file of a plugin and decides anew whether it may be executed. It executes nothing. The error wraps ErrUnknown, or
// says that the directory cannot be read.
func (h *Host) Inspect(name string) (Candidate, error) { return h.candidate(name) }

// Reconsider decides anew about a plugin, after what its trust rests on has changed: one that runs and may not is stopped, as gently as
// its settings and ctx allow; one that does not run and may is launched, if Start was called. It returns what is known of the file.
func (h *Host) Reconsider(ctx context.Context, name string) (Candidate, error) {
	h.reconsidering.Lock()
	defer h.reconsidering.Unlock()
	c, err := h.candidate(name)
	if err != nil {
		return c, err
	}
	h.note(c)
	h.mu.Lock()
	s, started := h.supervisors[name], h.started && !h.closed
	h.mu.Unlock()
	switch {
	case !started:
		return c, nil
	case c.Status == StatusReady && (s == nil || s.ended()):
		return c, h.launchAnew(ctx, c)
	case c.Status != StatusReady && s != nil && !s.ended():
		h.log.Info("plugin is stopped, since it must not be executed any more", "plugin", name, "reason", c.Reason)
		return c, s.stop(ctx)
	}
	return c, nil
}

// note keeps what is known of a plugin's file.
func (h *Host) note(c Candidate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.candidates {
		if h.candidates[i].Name == c.Name && h.candidates[i].Path == c.Path {
			h.candidates[i] = c
			return
		}
	}
	h.candidates = append(h.candidates, c)
}

// launchAnew supervises a plugin, in place of a supervisor that has ended, and waits for the first launch.
func (h *Host) launchAnew(ctx context.Context, c Candidate) error {
	p, err := h.resolve(c)
	if err != nil {
		return err
	}
	h.mu.Lock()
	former, config := h.supervisors[c.Name], h.configs[c.Name]
	for _, known := range []map[string]*supervisor{h.sources, h.sinks} {
		for typ, s := range known {
			if s == former {
				delete(known, typ)
			}
		}
	}
	h.mu.Unlock()
	h.supervise(p, config)
	h.mu.Lock()
	s := h.supervisors[c.Name]
	h.mu.Unlock()
	if s == former {
		return ErrClosed
	}
	if err := s.settled(ctx); err != nil {
		return fmt.Errorf("launch it: %w", err)
	}
	return nil
}

// ended reports whether nothing launches the plugin any more.
func (s *supervisor) ended() bool {
	select {
	case <-s.finished:
		return true
	default:
		return false
	}
}

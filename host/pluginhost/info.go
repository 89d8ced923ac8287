package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Info is what an operator wants to know about a plugin.
type Info struct {
	Candidate
	// Version of the plugin, "" as long as it has not described itself.
	Version string
	State   State
	Since   time.Time // of State
	// Problem says why the plugin is not ready. "" if it is, or was not launched.
	Problem string
	// Health is what the plugin had to say about itself when it was asked last.
	Health   string
	PID      int // 0 if there is no process
	Restarts int
	Flows    int   // open streams
	LastExit *Exit // nil if none of its processes has ended
	Sources  []string
	Sinks    []string
	// Confinement is what the plugin may do on this machine.
	Confinement []confine.Item
}

// Plugins lists all plugins, those that may not be executed included, by name.
func (h *Host) Plugins() []Info {
	h.mu.Lock()
	defer h.mu.Unlock()
	infos := make([]Info, len(h.candidates))
	for i, c := range h.candidates {
		infos[i] = Info{Candidate: c, State: StateResolved, Confinement: h.Confinement(c.Name, nil)}
		if s := h.supervisors[c.Name]; s != nil && s.Path == c.Path {
			infos[i] = s.info()
			infos[i].Candidate = c
			infos[i].Confinement = h.Confinement(c.Name, s.declared.Load())
		}
	}
	return infos
}

// Confinement says of what a plugin may do what is declared, allowed, and in force on this machine. declared is nil if the plugin does not
// say, or is not known.
func (h *Host) Confinement(name string, declared *sdk.Permissions) []confine.Item {
	p, err := confine.NewPolicy(declared, h.options.Plugins[name].Allowed)
	if err != nil {
		return nil // such a plugin is not launched
	}
	return h.launcher.confiner.Items(p)
}

func (s *supervisor) info() Info {
	st, in := s.snapshot()
	info := Info{Candidate: s.Candidate, State: st.state, Since: st.since, Health: st.health, Restarts: st.restarts,
		LastExit: st.lastExit}
	if st.problem != nil {
		info.Problem = st.problem.Error()
	}
	if in != nil {
		info.PID, info.Flows = in.process.pid, int(in.flows.Load())
	}
	if d := st.description; d != nil {
		info.Version, info.Sources, info.Sinks = d.Version, typeNames(d.Sources), typeNames(d.Sinks)
	}
	return info
}

func typeNames(types []sdk.AddressType) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.Type
	}
	return names
}

// Description returns what a plugin that Start launched said of itself; false if there is none, or it was never ready.
func (h *Host) Description(name string) (sdk.Description, bool) {
	h.mu.Lock()
	s := h.supervisors[name]
	h.mu.Unlock()
	if s == nil {
		return sdk.Description{}, false
	}
	st, _ := s.snapshot()
	if st.description == nil {
		return sdk.Description{}, false
	}
	return *st.description, true
}

// Describe returns what a plugin says of itself. One that Start has not launched is launched for that, without a configuration, and
// stopped again. The errors are ErrUnknown, ErrClosed and *Error, which wraps ErrRefused for a file that may not be executed.
func (h *Host) Describe(ctx context.Context, name string) (sdk.Description, error) {
	if d, ok := h.Description(name); ok {
		return d, nil
	}
	c, err := h.candidate(name)
	if err != nil {
		return sdk.Description{}, err
	}
	return h.describe(ctx, c)
}

// Descriptions describes all plugins that may be executed, as Describe does, by name. The error joins those of the plugins that have
// Settings; others' are logged. The descriptions of the rest are there in any case.
func (h *Host) Descriptions(ctx context.Context) ([]sdk.Description, error) {
	candidates, err := h.Discover()
	if err != nil {
		return nil, err
	}
	all, errs := make([]sdk.Description, len(candidates)), make([]error, len(candidates))
	var described sync.WaitGroup
	for i, c := range candidates {
		if c.Status == StatusReady || h.declared(c.Name) {
			described.Go(func() { all[i], errs[i] = h.describe(ctx, c) })
		}
	}
	described.Wait()
	var found []sdk.Description
	for i, c := range candidates {
		switch {
		case errs[i] != nil && !h.declared(c.Name):
			h.log.Warn("plugin cannot be described", "plugin", c.Name, "err", errs[i])
			errs[i] = nil
		case errs[i] == nil && all[i].Name != "":
			found = append(found, all[i])
		}
	}
	return found, errors.Join(errs...)
}

// candidate finds the file of a plugin. Of several, the one that can be executed is the plugin's.
func (h *Host) candidate(name string) (Candidate, error) {
	if s, ok := h.options.Plugins[name]; ok {
		files, err := h.filesByName()
		if err != nil {
			return Candidate{}, err
		}
		return h.inspect(name, h.declaredPath(name, s, files), io.Discard), nil
	}
	candidates, err := h.Discover()
	if err != nil {
		return Candidate{}, err
	}
	found, ok := Candidate{}, false
	for _, c := range candidates {
		if c.Name == name && (!ok || c.Status == StatusReady) {
			found, ok = c, true
		}
	}
	if !ok {
		return Candidate{}, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	return found, nil
}

// describe launches a candidate, asks, and stops it.
func (h *Host) describe(ctx context.Context, c Candidate) (sdk.Description, error) {
	if c.Status != StatusReady {
		return sdk.Description{}, c.refused()
	}
	if d, ok := h.Description(c.Name); ok {
		return d, nil
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return sdk.Description{}, ErrClosed
	}
	h.oneOffs.Add(1)
	h.mu.Unlock()
	defer h.oneOffs.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.closing, func() { cancel(ErrClosed) })()
	p, err := h.resolve(c)
	if err != nil {
		return sdk.Description{}, err
	}
	in, err := h.launcher.launch(ctx, p)
	if err != nil {
		return sdk.Description{}, err
	}
	// It has no configuration and no flow: there is nothing for it to bring to an end.
	return in.description, in.end("it was only to describe itself")
}

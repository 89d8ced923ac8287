package pluginhost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Info is what an operator wants to know about a plugin.
type Info struct {
	Candidate
	// Generation is the digest of the build that this is about, which can differ from that of the file; of a dialled plugin, the digest of
	// what it says of itself. "": none of its builds was used.
	Generation string
	// Withdrawn says that it was in use while the host ran, and that its file was removed, or is trusted no more.
	Withdrawn bool
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
	Launches int
	// LaunchTook is how long its last process took to be ready.
	LaunchTook time.Duration
	// Dropped is how many lines of its output were not logged, because there were too many.
	Dropped  int64
	Flows    int   // open streams
	LastExit *Exit // nil if none of its processes has ended
	Sources  []string
	Sinks    []string
	// Confinement is what the plugin may do on this machine.
	Confinement []confine.Item
	Isolation   Isolation
	// Processes are those that there are, or are being launched: the one that is everyone's first.
	Processes []Process
	// Quarantine says why it is not launched any more; nil if it is.
	Quarantine *Quarantine
	// Suspects are flows that may crash it, and are kept apart.
	Suspects []Suspect
	// Probation is what the build has to prove, nil if nothing.
	Probation *Probation
	// Rollback says of the build in use that its file has another, which was rolled back. nil: that is not so.
	Rollback *Rollback

	coming bool // it is to follow another, when it is ready
}

// Process is one process of a plugin.
type Process struct {
	PID   int    // 0: it is being launched
	For   string // whose it is
	State State
	Since time.Time // of State
	Flows int       // open streams
}

// Plugins lists all plugins, those that may not be executed included, by name: of each first the build that takes new flows, then the file
// that does not, then builds that come to rest.
func (h *Host) Plugins() []Info {
	h.mu.Lock()
	defer h.mu.Unlock()
	var infos []Info
	files := slices.Clone(h.candidates)
	for _, g := range h.generations() {
		info := g.info()
		is := slices.IndexFunc(files, func(c Candidate) bool { return c.Name == g.Name && c.Path == g.Path && c.SHA256 == g.SHA256 })
		switch {
		case h.retiring[g]:
			info.Status, info.Reason, info.Sources, info.Sinks = StatusRetired, g.why(), nil, nil
		case is >= 0:
			info.Candidate = files[is]
			files = slices.Delete(files, is, is+1)
		default:
			info.Reason = "its file has another content now"
		}
		info.Confinement = h.Confinement(g.Name, g.declared.Load())
		info.coming = h.coming[g.Name] == g
		if h.plugins[g.Name] == g {
			info.Probation, info.Rollback = g.probation(), h.rolledBack(g.Name)
		}
		infos = append(infos, info)
	}
	for _, c := range files {
		if slices.ContainsFunc(infos, func(i Info) bool { return i.Path == c.Path && i.Generation != "" && c.Status == StatusIncomplete }) {
			continue // it is being replaced
		}
		info := Info{Candidate: c, State: StateResolved, Withdrawn: h.withdrawn[c.Name],
			Confinement: h.Confinement(c.Name, nil)}
		if err := h.lookout.refused(c); err != nil {
			info.State, info.Problem = StateRefused, err.Error()
			if e := (*Error)(nil); errors.As(err, &e) && errors.Is(err, ErrRolledBack) {
				info.Problem = e.Err.Error()
			}
		}
		infos = append(infos, info)
	}
	slices.SortStableFunc(infos, func(a, b Info) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), rank(a)-rank(b), strings.Compare(a.Path, b.Path))
	})
	return infos
}

// Confinement says of what a plugin may do what is declared, allowed, and in force on this machine. declared is nil if the plugin does not
// say, or is not known.
func (h *Host) Confinement(name string, declared *sdk.Permissions) []confine.Item {
	p, err := confine.NewPolicy(declared, h.options.Plugins[name].Allowed)
	if err != nil {
		return nil // such a plugin is not launched
	}
	items := h.launcher.confiner.Items(p)
	if h.options.Plugins[name].Address != "" {
		return unconfine(items)
	}
	return items
}

func rank(i Info) int {
	switch {
	case i.Status == StatusRetired:
		return 3
	case i.Generation == "":
		return 2
	case i.coming:
		return 1
	}
	return 0
}

func (s *supervisor) info() Info {
	st, in := s.snapshot()
	info := Info{Candidate: s.Candidate, Generation: s.SHA256, State: st.state, Since: st.since, Health: st.health, Restarts: st.restarts,
		Launches: st.launches, LaunchTook: st.launchTook, Dropped: s.dropped.Load(), LastExit: st.lastExit}
	if st.problem != nil {
		info.Problem = st.problem.Error()
	}
	if in != nil {
		info.PID, info.Flows = in.process.pid, in.flows.count()
	}
	if d := st.description; d != nil {
		if s.dialled() {
			info.Generation = fingerprint(*d)
		}
		info.Version, info.Sources, info.Sinks = d.Version, typeNames(d.Sources), typeNames(d.Sinks)
	}
	return info
}

// info is that of the process which is everyone's, with what there is to say of the others.
func (g *generation) info() Info {
	info := g.supervisor.info()
	info.Isolation, info.Quarantine, info.Suspects = g.settings.Isolation, g.ward.quarantined(), g.ward.list()
	if p := g.process(); p.PID != 0 {
		info.Processes = append(info.Processes, p)
	}
	g.pool.mu.Lock()
	gone := g.pool.ended
	g.pool.mu.Unlock()
	last := func(e *Exit) {
		if e != nil && (info.LastExit == nil || e.At.After(info.LastExit.At)) {
			info.LastExit = e
		}
	}
	count := func(st status) {
		info.Restarts, info.Launches = info.Restarts+st.restarts, info.Launches+st.launches
		last(st.lastExit)
	}
	count(gone)
	for _, m := range g.pool.list() {
		st, _ := m.snapshot()
		count(st)
		p := m.process()
		if p.PID == 0 && p.State != StateStarting {
			continue
		}
		info.Flows += p.Flows
		info.Processes = append(info.Processes, p)
	}
	if q := info.Quarantine; q != nil && g.why() == "" {
		info.State, info.Since, info.Problem = StateQuarantined, q.Since, q.Error()
	}
	if info.State == StateStopped && len(info.Processes) > 0 {
		info.State = StateDraining
	}
	return info
}

// process says how it is with the process of a supervisor.
func (s *supervisor) process() Process {
	st, in := s.snapshot()
	p := Process{For: s.room.String(), State: st.state, Since: st.since}
	if in != nil {
		p.PID, p.Flows = in.process.pid, in.flows.count()
	}
	return p
}

func typeNames(types []sdk.AddressType) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.Type
	}
	return names
}

// Description returns what a plugin in use said of itself; false if there is none, or it was never described.
func (h *Host) Description(name string) (sdk.Description, bool) {
	h.mu.Lock()
	s := h.plugins[name]
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

// Describe returns what a plugin says of itself. One that is not in use, and was not described before, is launched for that, without a
// configuration, and stopped again. The errors are ErrUnknown, ErrClosed and *Error, which wraps ErrRefused for a file that may not be executed.
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
		if c.usable() || h.declares(c) && !h.Awaits(c) {
			described.Go(func() { all[i], errs[i] = h.describe(ctx, c) })
		}
	}
	described.Wait()
	var found []sdk.Description
	for i, c := range candidates {
		switch {
		case errs[i] != nil && (!h.declares(c) || c.Status == StatusDialled && h.options.Wait):
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
	if s, ok := h.options.Plugins[name]; ok && s.Address != "" {
		return dialledCandidate(name, s), nil
	} else if ok {
		files, err := h.filesByName()
		if err != nil {
			return Candidate{}, err
		}
		return h.inspect(name, h.declaredPath(name, s, files), nil, nil), nil
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

// describe launches a candidate, asks, and stops it. A plugin that is dialled it asks, and hangs up.
func (h *Host) describe(ctx context.Context, c Candidate) (sdk.Description, error) {
	if !c.usable() {
		return sdk.Description{}, c.refused()
	}
	if d, ok := h.Description(c.Name); ok {
		return d, nil
	}
	if a, ok := h.recall(c); ok {
		return a.Description, nil
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
	defer h.dropImage(p)
	in, err := h.launchToDescribe(ctx, p)
	if err != nil {
		return sdk.Description{}, err
	}
	return in.description, nil
}

// launchToDescribe launches a program, and ends it when it has described itself.
func (h *Host) launchToDescribe(ctx context.Context, p program) (*instance, error) {
	in, err := h.launcher.launch(ctx, p)
	if err != nil {
		return nil, err
	}
	h.remember(in)
	// It has no configuration and no flow: there is nothing for it to bring to an end.
	return in, in.end("it was only to describe itself")
}

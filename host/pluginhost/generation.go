package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// generation is one build of a plugin, which is to say one content of its file, and what keeps a process of it running. Of those that a
// plugin has, one takes new flows; the others bring theirs to an end.
type generation struct {
	*supervisor // of the process that is everyone's
	pool        *pool
	ward        *ward
	trial       *trial // nil if it has nothing to prove. Guarded by Host.mu
	// onTrial returns trial.
	onTrial func() *trial
}

// offering names a type of data address, in one of the two roles.
type offering struct{ kind, typ string }

// The roles.
const (
	asSource = "source"
	asSink   = "sink"
)

// offers lists the types of a plugin.
func offers(d sdk.Description) []offering {
	var all []offering
	for _, t := range d.Sources {
		all = append(all, offering{asSource, t.Type})
	}
	for _, t := range d.Sinks {
		all = append(all, offering{asSink, t.Type})
	}
	return all
}

// newGeneration returns a generation that does nothing yet.
func (h *Host) newGeneration(p program, config []byte) *generation {
	g := &generation{supervisor: newSupervisor(p, h.pace, h.log)}
	g.pool, g.ward = newPool(g), newWard(p.Name, h.pace, p.settings.QuarantineAfter, g.log)
	g.supervisor.ward = g.ward
	g.config, g.launch = config, h.launcher.launch
	g.ended = func(err error) { h.faltered(g, err) }
	g.onTrial = func() *trial {
		h.mu.Lock()
		defer h.mu.Unlock()
		return g.trial
	}
	if p.dialled() {
		h.redial(g)
	}
	g.admit = func(in *instance) (err error) {
		if in.trial, err = h.admit(g, in.description); err != nil {
			return err
		}
		if known, ok := h.recall(p.Candidate); !ok || known.Clear != p.clear.Load() || !sameOffers(known.Description, in.description) {
			h.remember(in)
		}
		return nil
	}
	return g
}

func sameOffers(a, b sdk.Description) bool {
	return a.Version == b.Version && slices.Equal(offers(a), offers(b))
}

// install lets a generation run. If its plugin has none that is of use it is the plugin's from now on; otherwise it is once its process is
// ready, see admit.
func (h *Host) install(g *generation) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if before := h.coming[g.Name]; before != nil {
		h.retire(before, "its file was replaced before it was ready", atOnce)
		delete(h.coming, g.Name)
	}
	switch before := h.plugins[g.Name]; {
	case before != nil && !before.failed():
		g.demand = nil
		g.set(func(st *status) { st.state = StateResolved }) // it is launched now
		h.coming[g.Name] = g
	default:
		if st, _ := g.snapshot(); st.description != nil {
			if err := h.offer(g, *st.description); err != nil {
				return err
			}
		}
		if before != nil {
			h.giveUp(before, outcomeSuperseded)
			h.retire(before, "it is launched again", atOnce)
		}
		h.plugins[g.Name] = g
	}
	delete(h.withdrawn, g.Name)
	h.begin(g)
	return nil
}

// abandon gives up what was to follow the generation that a plugin has.
func (h *Host) abandon(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.coming[name]; g != nil && !h.closed {
		delete(h.coming, name)
		h.retire(g, "its file was replaced before it was ready", atOnce)
	}
}

// failed says whether it has failed for good.
func (s *supervisor) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.state == StateFailed
}

// withdraw takes a plugin out of use. How its flows end is for how to say, within what the operator has bound.
func (h *Host) withdraw(name, why string, how parting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.withdrawn[name] = true
	if g := h.coming[name]; g != nil {
		delete(h.coming, name)
		h.retire(g, why, atOnce)
	}
	g := h.plugins[name]
	if g == nil {
		return
	}
	h.giveUp(g, outcomeWithdrawn)
	delete(h.rollbacks, name)
	delete(h.plugins, name)
	for f, by := range h.routes {
		if by == g {
			delete(h.routes, f)
			h.missed[f] = fmt.Sprintf("plugin %s: %s", name, why)
		}
	}
	h.retire(g, why, how)
	h.announce()
}

// retire has a generation come to rest, and forgets it when it has. h.mu is held.
func (h *Host) retire(g *generation, why string, how parting) {
	h.retiring[g] = true
	if g.settings.DrainBound {
		how = atOnce
	}
	g.retire(why, how)
	h.oneOffs.Go(func() {
		<-g.finished
		h.mu.Lock()
		delete(h.retiring, g)
		h.mu.Unlock()
		h.dropImage(g.program)
		h.log.Info("plugin has come to rest", "plugin", g.Name, "sha256", g.SHA256, "why", why)
	})
}

// dropImage removes the copy of a program that is not launched any more.
func (h *Host) dropImage(p program) {
	if p.dialled() {
		return
	}
	if err := h.launcher.dir.drop(p.image); err != nil {
		h.log.Warn("the copy of a plugin is not removed", "plugin", p.Name, "err", err)
	}
}

// admit makes the types known that a process of a generation offers, now that it is ready, and says what it has to prove. The flows of a
// generation that it succeeds go on with this one, from where they were.
func (h *Host) admit(g *generation, d sdk.Description) (*trial, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.retiring[g] {
		return nil, errRetired
	}
	before := h.plugins[g.Name]
	follows := h.coming[g.Name] == g
	if follows {
		if err := before.needs(d); err != nil {
			return nil, err
		}
	}
	if err := h.offer(g, d); err != nil {
		return nil, err
	}
	if follows {
		delete(h.coming, g.Name)
		h.plugins[g.Name] = g
		h.succeed(before, g)
		h.retire(before, "another version of it took over", leaving)
	}
	h.announce()
	return g.trial, nil
}

// offer gives the types of a plugin to one of its generations, unless one of them is another plugin's. h.mu is held.
func (h *Host) offer(g *generation, d sdk.Description) error {
	types := offers(d)
	for _, f := range types {
		if other := h.routes[f]; other != nil && other.Name != g.Name {
			names := []string{g.Name, other.Name}
			slices.Sort(names)
			return fmt.Errorf("%s type %q %w: %s and %s", f.kind, f.typ, ErrConflict, names[0], names[1])
		}
	}
	for f, by := range h.routes {
		if by.Name == g.Name && !slices.Contains(types, f) {
			delete(h.routes, f)
			h.missed[f] = fmt.Sprintf("plugin %s does not offer it any more", g.Name)
		}
	}
	for _, f := range types {
		h.routes[f] = g
		delete(h.missed, f)
	}
	return nil
}

// announce tells that other types are offered than before. h.mu is held.
func (h *Host) announce() {
	h.version++
	close(h.offered)
	h.offered = make(chan struct{})
	if h.options.Changed != nil {
		h.options.Changed()
	}
}

// find returns what is used for a type at present. The error is an *sdk.Error: Invalid, and it lists the types there are.
func (h *Host) find(f offering) (*generation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g, ok := h.routes[f]; ok {
		return g, nil
	}
	var types []string
	for other := range h.routes {
		if other.kind == f.kind {
			types = append(types, other.typ)
		}
	}
	slices.Sort(types)
	there := "there are: " + strings.Join(types, ", ")
	if len(types) == 0 {
		there = "nor any other"
	}
	if why := h.missed[f]; why != "" {
		return nil, sdk.Errorf(sdk.Invalid, "the %s type %q %w: %s", f.kind, f.typ, ErrWithdrawn, why)
	}
	if len(types) == 0 {
		return nil, sdk.Errorf(sdk.Invalid, "no plugin offers the %s type %q, %s", f.kind, f.typ, there)
	}
	return nil, sdk.Errorf(sdk.Invalid, "no plugin offers the %s type %q; %s", f.kind, f.typ, there)
}

// await is find that waits, with bounds, for a plugin to come. The error is then one that can pass.
func (h *Host) await(ctx context.Context, f offering) (*generation, error) {
	if g, err := h.find(f); err == nil {
		return g, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.pace.patience, errAbsent)
	defer cancel()
	for {
		h.mu.Lock()
		offered := h.offered
		h.mu.Unlock()
		g, err := h.find(f)
		if err == nil {
			return g, nil
		}
		select {
		case <-offered:
			continue
		case <-ctx.Done():
		case <-h.closing.Done():
		}
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errAbsent) {
			return nil, cause
		}
		if !errors.Is(err, ErrWithdrawn) {
			err = fmt.Errorf("%w: %w", ErrWithdrawn, err)
		}
		return nil, sdk.Retryf(sdk.Unavailable, "%w", err)
	}
}

var errAbsent = errors.New("no plugin came")

// call calls f with a process for a type and a tenant: the one of the moment. While there is none it waits, with bounds.
func (h *Host) call(ctx context.Context, to offering, who tenant, f func(v *visit) error) error {
	for {
		g, err := h.await(ctx, to)
		if err != nil {
			return err
		}
		err = g.call(ctx, to, who, f)
		if !errors.Is(err, errRetired) && !errors.Is(err, ErrReplaced) {
			return err
		}
		// It has been replaced or withdrawn since: await returns another, or says why not.
		if ctx.Err() != nil || h.closing.Err() != nil {
			return err
		}
	}
}

// generations lists all that there are, by name: of each plugin first the one that takes new flows, then the one that is to follow it,
// then those that come to rest. h.mu is held.
func (h *Host) generations() []*generation {
	all := slices.Collect(maps.Values(h.plugins))
	all = slices.AppendSeq(all, maps.Values(h.coming))
	all = slices.AppendSeq(all, maps.Keys(h.retiring))
	slices.SortStableFunc(all, func(a, b *generation) int { return strings.Compare(a.Name, b.Name) })
	return all
}

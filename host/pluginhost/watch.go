package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Watch keeps what is offered in step with the plugin directory until ctx ends. A file that comes is used once it is whole, if the policy
// allows it; one that is removed takes no new flow, and its process ends when the flows have; one that is replaced is followed by its
// successor as soon as that is ready. It is called once, after Start.
func (h *Host) Watch(ctx context.Context) error {
	events := make(chan struct{}, 1)
	listening, err := listen(events)
	if err != nil {
		h.log.Warn("changes of the plugin directory are found by looking only", "every", h.pace.rescan, "err", err)
	} else {
		defer listening.stop()
	}
	slow := time.NewTicker(h.pace.rescan)
	defer slow.Stop()
	soon := time.NewTimer(0)
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			soon.Reset(h.pace.settle / 4) // more of them are on their way
			continue
		case <-slow.C:
		case <-soon.C:
		}
		listening.to(h.folders())
		unsettled, _, err := h.look(ctx, false)
		h.lookout.looked(h.log, err)
		if unsettled {
			soon.Reset(h.pace.settle)
		}
	}
}

// Rescan looks at the plugin directory at once, and tries again what failed before. It returns when everything there has been taken into
// use or refused, but for files that keep changing.
func (h *Host) Rescan(ctx context.Context) error {
	for round := 0; ; round++ {
		unsettled, arriving, err := h.look(ctx, round == 0)
		if err != nil {
			return err
		}
		for _, done := range arriving {
			select {
			case <-done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if !unsettled || round == rescanRounds {
			return nil
		}
		sleep(ctx, h.pace.settle)
	}
}

// rescanRounds bounds how often Rescan looks at files that change.
const rescanRounds = 8

// ears hear when something happens in folders.
type ears struct {
	watcher *fsnotify.Watcher
	heard   map[string]fs.FileInfo // folders, by path: a path can become another folder's
	done    chan struct{}
}

// listen returns ears that put a value into events when something happens.
func listen(events chan<- struct{}) (*ears, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	l := &ears{watcher: w, heard: map[string]fs.FileInfo{}, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for {
			select {
			case _, ok := <-w.Events:
				if !ok {
					return
				}
			case _, ok := <-w.Errors: // such as too many events: a look finds what they were about
				if !ok {
					return
				}
			}
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}()
	return l, nil
}

// to makes them hear of folders, as far as those are there.
func (l *ears) to(folders []string) {
	if l == nil {
		return
	}
	for _, folder := range folders {
		info, err := os.Stat(folder)
		if err != nil || os.SameFile(info, l.heard[folder]) && slices.Contains(l.watcher.WatchList(), folder) {
			continue
		}
		l.watcher.Remove(folder)
		if l.watcher.Add(folder) == nil {
			l.heard[folder] = info
		}
	}
}

func (l *ears) stop() {
	l.watcher.Close()
	<-l.done
}

// folders are those in which plugins are.
func (h *Host) folders() []string {
	all := map[string]bool{}
	if h.options.Directory != "" {
		all[h.options.Directory] = true
	}
	for _, s := range h.options.Plugins {
		if filepath.IsAbs(s.Binary) {
			all[filepath.Dir(s.Binary)] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// look compares the plugin directory with what is in use, and begins to bring the two in step. unsettled says that some of it has to be
// looked at again soon; the channels are closed when what began is done. forced tries again what failed for good.
func (h *Host) look(ctx context.Context, forced bool) (unsettled bool, arriving []<-chan struct{}, err error) {
	h.looking.Lock()
	defer h.looking.Unlock()
	h.mu.Lock()
	running := h.started && !h.closed
	h.mu.Unlock()
	if !running {
		return false, nil, fmt.Errorf("%w, or not started", ErrClosed)
	}
	candidates, err := h.discover(h.lookout.whole(h.pace.settle))
	if err != nil || ctx.Err() != nil {
		return false, nil, err
	}
	h.lookout.forget(candidates)
	h.mu.Lock()
	h.candidates = candidates
	names := slices.Concat(slices.Collect(maps.Keys(h.plugins)), slices.Collect(maps.Keys(h.coming)))
	h.mu.Unlock()
	chosen := byPlugin(candidates)
	for _, name := range names {
		if _, ok := chosen[name]; !ok {
			chosen[name] = Candidate{Name: name, Status: StatusMissing}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		later, done := h.compare(chosen[name], forced)
		unsettled = unsettled || later
		if done != nil {
			arriving = append(arriving, done)
		}
	}
	for _, c := range candidates {
		if !c.usable() && c.Status != StatusMissing && c.Status != StatusIncomplete {
			h.lookout.report(h.log, c, c.refused(), h.advice(c, nil))
		}
	}
	return unsettled, arriving, nil
}

// compare brings one plugin in step with its file.
func (h *Host) compare(c Candidate, forced bool) (unsettled bool, arriving <-chan struct{}) {
	h.mu.Lock()
	current, coming, version := h.plugins[c.Name], h.coming[c.Name], h.version
	h.mu.Unlock()
	if c.Status != StatusMissing {
		h.lookout.isThere(c.Name)
	}
	used := current != nil || coming != nil
	switch {
	case c.Status == StatusIncomplete:
		return true, nil
	case c.Status == StatusDialled: // it comes and goes by itself
		return false, nil
	case c.Status == StatusMissing && !used:
		return false, nil
	case c.Status == StatusMissing && !h.lookout.missing(c.Name, h.pace.grace):
		return true, nil
	case c.Status == StatusMissing:
		h.log.Info("plugin takes no new flows", "plugin", c.Name, "why", whyRemoved)
		h.withdraw(c.Name, whyRemoved, inPeace)
		return true, nil // another plugin may wait for its types
	case c.Status != StatusReady:
		if current.is(c) || coming.is(c) {
			h.log.Warn("plugin takes no new flows", "plugin", c.Name, "why", c.Reason)
			h.withdraw(c.Name, "its file may not be executed any more: "+c.Reason, atOnce)
			return true, nil
		}
		return false, nil
	}
	generation := coming
	if current.is(c) {
		generation = current
	}
	switch {
	case generation.is(c) && !generation.failed():
		if generation == current {
			h.abandon(c.Name)
			h.restored(c.Name)
		}
		return false, nil
	case forced, generation.is(c) && generation.outcompeted() && h.lookout.again(c, version),
		!generation.is(c) && h.lookout.again(c, version):
		return false, h.arrive(c, version)
	}
	return false, nil
}

const whyRemoved = "its file was removed"

// is says whether g is what the file has in it.
func (g *generation) is(c Candidate) bool { return g != nil && g.SHA256 == c.SHA256 }

// outcompeted says whether it failed because another plugin offered one of its types.
func (g *generation) outcompeted() bool {
	st, _ := g.snapshot()
	return errors.Is(st.problem, ErrConflict)
}

// arrive takes a file into use, beside whatever else goes on. The channel is closed when that is done.
func (h *Host) arrive(c Candidate, version int) <-chan struct{} {
	done, begun := h.lookout.begin(c.Name)
	if !begun {
		return done
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		h.lookout.end(c.Name)
		return done
	}
	h.oneOffs.Go(func() {
		defer h.lookout.end(c.Name)
		h.forgive(c)
		err := h.adopt(h.closing, c)
		if h.closing.Err() != nil {
			return
		}
		h.lookout.settle(c, err, version, h.pace)
		if err != nil {
			h.lookout.report(h.log, c, err, h.advice(c, err))
		}
	})
	return done
}

// adopt has a file described, if it was not before, finds its configuration, and lets its plugin run. It returns when that has become ready
// or has failed once; the error is why it was not let run.
func (h *Host) adopt(ctx context.Context, c Candidate) (err error) {
	p, err := h.resolve(c)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			h.dropImage(p)
		}
	}()
	known, before := h.recall(p.Candidate)
	if !before {
		in, err := h.launchToDescribe(ctx, p)
		if err != nil {
			return err
		}
		known = account{Description: in.description, Clear: p.clear.Load()}
	}
	config, err := h.configuration(known.Description)
	if err != nil {
		return &Error{Plugin: c.Name, Doing: "configure", Err: err, Final: true}
	}
	g := h.newGeneration(p, config)
	g.take(known, h.isNew(p.Candidate))
	h.log.Info("plugin is taken into use", "plugin", c.Name, "path", c.Path, "sha256", p.SHA256, "version", known.Description.Version)
	if err := h.install(g); err != nil {
		return &Error{Plugin: c.Name, Doing: "describe", Err: err, Final: true}
	}
	g.settled(ctx) // what comes of it is the supervisor's to tell
	return nil
}

func (h *Host) configuration(d sdk.Description) ([]byte, error) {
	if h.options.Configure == nil {
		return h.configs[d.Name], nil
	}
	return h.options.Configure(d)
}

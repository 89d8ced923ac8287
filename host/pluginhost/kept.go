package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// standing is how a build stands that has followed another, for the next start of the host. It is kept with what the build said of itself.
type standing struct {
	Since  time.Time `json:"since"`
	Before string    `json:"before"` // digest of the build that it has followed
	File   string    `json:"file"`   // what the file of that build was called
	// Refused says why the build was rolled back. "": it is on probation.
	Refused string `json:"refused,omitempty"`
}

// recording bounds what is written when the standing of a build changes.
const recording = time.Minute

// recordStanding keeps how a build stands that has followed back, and the file of that for as long as the standing says; nil: it has nothing
// to prove. It does so in the background; the last one counts. h.mu is held.
func (h *Host) recordStanding(c Candidate, st *standing, back *fallback) {
	if h.closed {
		return
	}
	of := build{c.Name, c.SHA256}
	if st != nil {
		st.File = filepath.Base(back.Path)
		h.launcher.dir.hold(back.image)
	}
	if st == nil {
		delete(h.standings, of)
	} else {
		h.standings[of] = st
	}
	h.oneOffs.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(h.closing), recording)
		defer cancel()
		h.remembering.Lock()
		defer h.remembering.Unlock()
		h.mu.Lock()
		latest, needed := h.standings[of], h.needed(back.SHA256)
		h.mu.Unlock()
		var err error
		switch {
		case st != nil:
			err = h.keep(back)
			h.dropImage(back.program)
		case !needed:
			err = h.unkeep(back.SHA256)
		}
		if err != nil {
			h.log.Warn("the build before is not kept for the next start of the host", "plugin", c.Name, "sha256", back.SHA256, "err", err)
		}
		h.saveStanding(ctx, of, latest)
	})
}

// needed says whether a build is there to be gone back to. h.mu is held.
func (h *Host) needed(digest string) bool {
	for _, st := range h.standings {
		if st.Before == digest {
			return true
		}
	}
	return false
}

// saveStanding puts a standing beside what a build said of itself. h.remembering is held.
func (h *Host) saveStanding(ctx context.Context, of build, st *standing) {
	if h.options.Cache == nil {
		return
	}
	d := described{Format: describedFormat, Plugins: maps.Clone(h.load(of.sha256).Plugins)}
	a, ok := d.Plugins[of.name]
	if !ok {
		return // the cache has lost it, and the build will be described anew
	}
	a.Standing = st
	d.Plugins[of.name] = a
	content, err := json.Marshal(d)
	if err == nil {
		err = h.options.Cache.Save(ctx, of.sha256, content)
	}
	if err != nil {
		h.log.Warn("whether a plugin has proved itself is not kept", "plugin", of.name, "err", err)
	}
}

// standing is what an earlier host has kept of a file; nil if it has nothing to prove.
func (h *Host) standing(c Candidate) *standing {
	a, ok := h.recall(c)
	if !ok {
		return nil
	}
	return a.Standing
}

// Standing says whether a file is on probation, or was rolled back, by what a host has kept in the cache. Both are nil if neither.
func (h *Host) Standing(c Candidate) (*Probation, *Rollback) {
	a, ok := h.recall(c)
	st := a.Standing
	switch {
	case !ok || st == nil:
		return nil, nil
	case st.Refused == "":
		before, _ := h.recall(Candidate{Name: c.Name, SHA256: st.Before})
		return &Probation{Since: st.Since, SHA256: st.Before, Version: before.Description.Version}, nil
	}
	return nil, &Rollback{At: st.Since, SHA256: c.SHA256, Version: a.Description.Version, Why: st.Refused}
}

// keptPath is where the file of a build is kept.
func (h *Host) keptPath(digest, file string) string {
	return filepath.Join(h.options.Keep, digest, file)
}

// keep copies the file of a build, and its signature, to where the next host finds it.
func (h *Host) keep(back *fallback) error {
	if h.options.Keep == "" {
		return nil
	}
	path := h.keptPath(back.SHA256, filepath.Base(back.Path))
	if _, err := os.Stat(path); err == nil {
		return nil // it is whole, see below
	}
	if err := makePrivate(h.options.Keep); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if back.signature != "" {
		if err := os.WriteFile(path+signatureSuffix, []byte(back.signature), 0o600); err != nil {
			return err
		}
	}
	from, err := os.Open(back.image)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(filepath.Dir(path), "new-")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name())
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Chmod(0o700), to.Sync(), to.Close()); err != nil {
		return err
	}
	return os.Rename(to.Name(), path)
}

// unkeep removes the file of a build that nothing goes back to.
func (h *Host) unkeep(digest string) error {
	if h.options.Keep == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(h.options.Keep, digest))
}

// sweepKept removes what was kept for files that are not there any more.
func (h *Host) sweepKept(candidates []Candidate) {
	if h.options.Keep == "" {
		return
	}
	needed := map[string]bool{}
	for _, c := range candidates {
		if st := h.standing(c); st != nil {
			needed[st.Before] = true
		}
	}
	entries, err := os.ReadDir(h.options.Keep)
	for _, e := range entries {
		if !needed[e.Name()] {
			err = errors.Join(err, h.unkeep(e.Name()))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Warn("builds of plugins that are not needed any more were not removed", "err", err)
	}
}

// kept finds the build that a standing goes back to. The policy decides about it as about any file, but that a decision about another file
// of the plugin will do: it is about the one that has followed this.
func (h *Host) kept(name string, st *standing) (*fallback, error) {
	if h.options.Keep == "" {
		return nil, errors.New("no build was kept")
	}
	a, ok := h.recall(Candidate{Name: name, SHA256: st.Before})
	if !ok {
		return nil, errors.New("it is not known what the build before offers")
	}
	config, err := h.configuration(a.Description)
	if err != nil {
		return nil, fmt.Errorf("the build before: %w", err)
	}
	p, err := h.resolveBy(Candidate{Name: name, Path: h.keptPath(st.Before, st.File)}, func(c Candidate, w io.Writer) Candidate {
		c = h.inspect(c.Name, c.Path, w, nil)
		_, decided, err := h.options.Decisions(name)
		switch {
		case c.SHA256 != st.Before:
			c.Status, c.Reason = StatusUntrusted, "it is not the build that was kept"
		case c.Status == StatusUntrusted && h.options.Trust == TrustAsk && decided && err == nil && h.options.Plugins[name].SHA256 == "" &&
			h.options.Plugins[name].Publisher == "":
			c.Status, c.Reason = StatusReady, "it was used before the file that was rolled back"
		}
		return c
	})
	if err != nil {
		return nil, err
	}
	return &fallback{program: p, config: config, account: a}, nil
}

// takeUp returns a generation for a file as an earlier host has left it: of the file, on probation, or of the build before in its place. nil
// if there is nothing to take up.
func (h *Host) takeUp(c Candidate) (*generation, error) {
	st := h.standing(c)
	if st == nil {
		return nil, nil
	}
	back, err := h.kept(c.Name, st)
	if err != nil {
		h.log.Warn("there is no build of the plugin to go back to", "plugin", c.Name, "sha256", c.SHA256, "rolled_back", st.Refused, "err", err)
		return nil, nil
	}
	if st.Refused != "" {
		return h.takeBack(c, st, back), nil
	}
	g, err := h.fresh(c)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.dropImage(back.program)
		return nil, err
	}
	h.putOnTrial(g, back, st.Since)
	h.standings[build{c.Name, c.SHA256}] = st
	return g, nil
}

// takeBack returns a generation of the build that an earlier host has rolled back to.
func (h *Host) takeBack(c Candidate, st *standing, back *fallback) *generation {
	a, _ := h.recall(c)
	r := Rollback{At: st.Since, SHA256: c.SHA256, Version: a.Description.Version, Why: st.Refused}
	h.log.Warn("plugin stays rolled back", "plugin", c.Name, "sha256", c.SHA256, "version", r.Version, "why", r.Why, "to", back.SHA256,
		"to_version", back.account.Description.Version, "do", adviceRollback)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noteRollback(c, r)
	h.standings[build{c.Name, c.SHA256}] = st
	g := h.newGeneration(back.program, back.config)
	g.take(back.account, h.isNew(back.Candidate))
	return g
}

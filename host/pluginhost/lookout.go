package pluginhost

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// lookout is what is remembered from one look at the plugin directory to the next.
type lookout struct {
	mu       sync.Mutex               // guards the rest
	seen     map[string]sighting      // files, by path
	gone     map[string]time.Time     // plugins whose file was missing, and since when
	refusals map[string]refusal       // by name of plugin
	reported map[string]string        // what was said last about a file, by path
	arriving map[string]chan struct{} // by name of plugin, while it is taken into use
	blind    string                   // why the directory was not looked at last. "": it was
}

// sighting is how a file looked, and since when.
type sighting struct {
	stamp stamp
	since time.Time
}

// refusal is why a file that may be executed is not used.
type refusal struct {
	sha256  string
	err     error
	count   int
	retryAt time.Time // zero: it is not tried again by itself
	offers  int       // which, see Host.version, were in its way
}

func newLookout() lookout {
	return lookout{seen: map[string]sighting{}, gone: map[string]time.Time{}, refusals: map[string]refusal{}, reported: map[string]string{},
		arriving: map[string]chan struct{}{}}
}

var (
	errChanging = errors.New("it is still changing")
	errWritten  = errors.New("a program still has it open for writing")
)

// whole is a gate that lets files pass which nobody has touched for a while, and nobody is writing to.
func (l *lookout) whole(settle time.Duration) gate {
	return func(path string, file *os.File) error {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		now, s := time.Now(), stampOf(info)
		l.mu.Lock()
		defer l.mu.Unlock()
		before, ok := l.seen[path]
		if !ok || before.stamp != s {
			before = sighting{s, now}
			l.seen[path] = before
		}
		untouched := !s.changed.IsZero() && now.Sub(s.changed) >= coarse
		switch {
		case now.Sub(before.since) < settle && !untouched:
			return errChanging
		case beingWritten(file):
			return errWritten
		}
		return nil
	}
}

// forget drops what is known of files and plugins that are not there any more.
func (l *lookout) forget(candidates []Candidate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	paths, names := map[string]bool{}, map[string]bool{}
	for _, c := range candidates {
		paths[c.Path], names[c.Name] = c.Status != StatusMissing, true
	}
	for path := range l.seen {
		if !paths[path] {
			delete(l.seen, path)
		}
	}
	for path := range l.reported {
		if !paths[path] {
			delete(l.reported, path)
		}
	}
	for name := range l.refusals {
		if !names[name] {
			delete(l.refusals, name)
		}
	}
}

// missing says whether the file of a plugin has been gone for so long that it was removed.
func (l *lookout) missing(name string, grace time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, ok := l.gone[name]
	if !ok {
		since = time.Now()
		l.gone[name] = since
	}
	if time.Since(since) < grace {
		return false
	}
	delete(l.gone, name)
	return true
}

func (l *lookout) isThere(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.gone, name)
}

// refused is why a file is not used although it may be executed; nil if nothing is known against it.
func (l *lookout) refused(c Candidate) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.refusals[c.Name]; ok && r.sha256 == c.SHA256 {
		return r.err
	}
	return nil
}

// again says whether to take a file into use, after what came of that before. version is that of what is offered.
func (l *lookout) again(c Candidate, version int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.refusals[c.Name]
	switch {
	case !ok || r.sha256 != c.SHA256:
		return true
	case errors.Is(r.err, ErrConflict):
		return r.offers != version
	}
	return !r.retryAt.IsZero() && !time.Now().Before(r.retryAt)
}

// refuse records why a file is not used, and not tried again by itself.
func (l *lookout) refuse(c Candidate, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals[c.Name] = refusal{sha256: c.SHA256, err: err}
}

// forgive forgets that a file was rolled back: it is tried again.
func (l *lookout) forgive(c Candidate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.refusals[c.Name].err, ErrRolledBack) {
		delete(l.refusals, c.Name)
	}
}

// settle records what came of taking a file into use. version is that of what was offered before.
func (l *lookout) settle(c Candidate, err error, version int, pace pace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.refusals[c.Name]
	if errors.Is(before.err, ErrRolledBack) && before.sha256 == c.SHA256 {
		return // that is what came of it, meanwhile
	}
	delete(l.refusals, c.Name)
	if err == nil {
		delete(l.reported, c.Path)
		return
	}
	r := refusal{sha256: c.SHA256, err: err, count: 1, offers: version}
	if before.sha256 == c.SHA256 {
		r.count += before.count
	}
	if e := (*Error)(nil); errors.As(err, &e) && !e.Final {
		r.retryAt = time.Now().Add(pace.rescan << min(r.count, 6))
	}
	l.refusals[c.Name] = r
}

// looked says, once, that the plugin directory could not be looked at, and that it can be again.
func (l *lookout) looked(log *slog.Logger, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	l.mu.Lock()
	before := l.blind
	l.blind = why
	l.mu.Unlock()
	switch {
	case why == before:
	case why != "":
		log.Warn("the plugin directory was not looked at: the plugins that are in use stay", "why", why)
	default:
		log.Info("the plugin directory is looked at again")
	}
}

// report says, once for each content of a file, why it is not used and what to do.
func (l *lookout) report(log *slog.Logger, c Candidate, err error, advice string) {
	why := c.Reason
	if c.Status == StatusReady {
		why = err.Error()
		if e := (*Error)(nil); errors.As(err, &e) {
			why = e.why()
		}
	}
	said := strings.Join([]string{c.SHA256, string(c.Status), why}, "\n")
	l.mu.Lock()
	repeated := l.reported[c.Path] == said
	l.reported[c.Path] = said
	l.mu.Unlock()
	if !repeated {
		log.Warn("plugin cannot be used", "plugin", c.Name, "path", c.Path, "sha256", c.SHA256, "file", string(c.Status), "why", why,
			"do", advice)
	}
}

// advice says what an operator can do about a plugin that is not used. err is why, if that is not the file's status.
func (h *Host) advice(c Candidate, err error) string {
	switch {
	case c.misnamed:
		return "remove or rename it"
	case c.Status == StatusUntrusted:
		return "remove it, or, if it is what it should be, " + h.adviceOnTrust(c)
	case c.Status == StatusNotExecutable && c.Mode.Perm()&0o111 == 0:
		return "make it executable, or remove it"
	case c.Status == StatusNotExecutable:
		return "put the whole file there again, or remove it"
	case c.Status == StatusWrongArch:
		return "replace it by a build for this machine"
	case errors.Is(err, ErrConflict):
		return "remove one of the two plugins"
	}
	return "replace it, or change its plugin block and start the host again; towpath plugins rescan tries it again"
}

// adviceOnTrust says what would make the policy allow a file.
func (h *Host) adviceOnTrust(c Candidate) string {
	settings := h.options.Plugins[c.Name]
	pin := fmt.Sprintf("pin it and start the host again: plugin %q { sha256 = %q }", c.Name, c.SHA256)
	switch {
	case settings.SHA256 != "":
		return pin
	case settings.Publisher != "":
		return fmt.Sprintf("put the signature of publisher %q beside it", settings.Publisher)
	case h.options.Trust == TrustSigned:
		return fmt.Sprintf("put a publisher's signature beside it (%s%s), or %s", filepath.Base(c.Path), signatureSuffix, pin)
	case h.options.Trust == TrustAsk:
		return "decide so: towpath plugins trust " + c.Name
	case h.options.Trust == TrustDirectory:
		return "let nobody but root and the host's user write to it and to the folders above (chmod go-w, chown), or " + pin
	}
	return pin
}

// begin says that a plugin is being taken into use. The channel is closed by end; if begun is false, that is for somebody else to call.
func (l *lookout) begin(name string) (done chan struct{}, begun bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if done, ok := l.arriving[name]; ok {
		return done, false
	}
	done = make(chan struct{})
	l.arriving[name] = done
	return done, true
}

func (l *lookout) end(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.arriving[name])
	delete(l.arriving, name)
}

// byPlugin gives the file of each plugin: of several, the one that can be executed.
func byPlugin(candidates []Candidate) map[string]Candidate {
	chosen := map[string]Candidate{}
	for _, c := range candidates {
		if before, ok := chosen[c.Name]; !ok || before.Status != StatusReady && c.Status == StatusReady {
			chosen[c.Name] = c
		}
	}
	return chosen
}

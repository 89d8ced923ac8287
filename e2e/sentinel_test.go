//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sentinel hears from the kernel of everything that happens to the names below a folder while it stands watch, and says what may not
// happen to those that are final: a file appears there once, whole, and is not touched any more.
type sentinel struct {
	root string
	// final says what a file has to be, by its name below root: its SHA-256, or "" if its content is not known beforehand. ok is false
	// for names that are not final.
	final func(name string) (digest string, ok bool)
	// report hears what may not happen.
	report func(format string, args ...any)

	// replaces says that a final file may be replaced by the same one.
	replaces bool

	bell
	fd      int
	pipe    [2]int // ends the watch
	watched map[int32]string
	seen    map[string]uint64 // inodes of the final files that have appeared
	done    sync.WaitGroup
}

// bell tells of events when they happen.
type bell struct {
	mu   sync.Mutex
	next []func(event string) bool // hear of events until they return true
}

const sentinelMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// newSentinel returns one that watches. finish ends the watch.
func newSentinel(t testing.TB, root string, final func(string) (string, bool), report func(string, ...any)) *sentinel {
	t.Helper()
	s := &sentinel{root: root, final: final, report: report, watched: map[int32]string{}, seen: map[string]uint64{}}
	s.start(t)
	return s
}

func (s *sentinel) start(t testing.TB) {
	t.Helper()
	var err error
	if s.fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	if err := unix.Pipe2(s.pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	s.watch(".")
	s.done.Go(s.run)
}

// finish ends the watch, once everything has been looked at that happened before.
func (s *sentinel) finish() {
	unix.Close(s.pipe[1])
	s.done.Wait()
	unix.Close(s.pipe[0])
	unix.Close(s.fd)
}

// onNext has do called with the names of the next events, as "create a/b" or "move a/b", until it returns true. It is called at once
// when something happens, while whoever did it goes on.
func (b *bell) onNext(do func(event string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = append(b.next, do)
}

// calm has nobody called any more.
func (b *bell) calm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = nil
}

func (b *bell) ring(event string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = slices.DeleteFunc(b.next, func(do func(string) bool) bool { return do(event) })
}

// watch begins to watch a folder and those below it. What is there already has appeared.
func (s *sentinel) watch(folder string) {
	wd, err := unix.InotifyAddWatch(s.fd, filepath.Join(s.root, folder), sentinelMask)
	if err != nil {
		return // gone again
	}
	s.watched[int32(wd)] = folder
	entries, _ := os.ReadDir(filepath.Join(s.root, folder))
	for _, e := range entries {
		name := filepath.Join(folder, e.Name())
		switch {
		case e.IsDir():
			s.watch(name)
		case e.Type().IsRegular():
			s.appears(name)
		}
	}
}

func (s *sentinel) run() {
	buf := make([]byte, 256<<10)
	polled := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.pipe[0]), Events: unix.POLLIN}}
	for {
		n, err := unix.Read(s.fd, buf)
		if n > 0 {
			s.events(buf[:n])
			continue
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			s.report("watch %s: %v", s.root, err)
			return
		}
		if polled[1].Revents != 0 {
			return
		}
		unix.Poll(polled, -1)
	}
}

func (s *sentinel) events(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+e.Len], []byte{0})
		b = b[unix.SizeofInotifyEvent+e.Len:]
		if e.Mask&unix.IN_Q_OVERFLOW != 0 {
			s.report("watch %s: the kernel has lost events", s.root)
		}
		if folder, ok := s.watched[e.Wd]; ok && e.Mask&unix.IN_IGNORED == 0 {
			s.event(e.Mask, filepath.Join(folder, string(name)))
		} else {
			delete(s.watched, e.Wd)
		}
	}
}

func (s *sentinel) event(mask uint32, name string) {
	if mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
		s.tell(mask, name)
	}
	switch folder := mask&unix.IN_ISDIR != 0; {
	case folder && mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		s.watch(name)
	case folder:
	case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		s.appears(name)
	default:
		if _, ok := s.final(name); ok {
			s.report("%s, which has its final name, was touched: %s", name, eventNames(mask))
		}
	}
}

func (s *sentinel) tell(mask uint32, name string) {
	event := "create " + name
	if mask&unix.IN_MOVED_TO != 0 {
		event = "move " + name
	}
	s.ring(event)
}

// appears checks a file that has got its final name. The same one can be seen in its folder before its event comes.
func (s *sentinel) appears(name string) {
	want, ok := s.final(name)
	if !ok {
		return
	}
	path := filepath.Join(s.root, name)
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		s.report("%s is gone once it has its final name: %v", name, err)
		return
	}
	switch s.seen[name] {
	case stat.Ino:
		return
	case 0:
	default:
		if want != "" && !s.replaces {
			s.report("%s appears for a second time", name)
		}
	}
	s.seen[name] = stat.Ino
	if want == "" {
		return
	}
	switch digest, err := digestOf(path); {
	case err != nil:
		s.report("%s cannot be read once it has its final name: %v", name, err)
	case digest != want:
		s.report("%s is visible and is not whole, or not what was sent", name)
	}
}

func eventNames(mask uint32) string {
	var names []string
	for bit, name := range map[uint32]string{unix.IN_MODIFY: "modified", unix.IN_DELETE: "deleted", unix.IN_MOVED_FROM: "moved away"} {
		if mask&bit != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// A sentinel sees what may not happen.
func TestSentinel(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	content := t.TempDir()
	writeFile(t, content+"/whole", "whole")
	digest, err := digestOf(content + "/whole")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		do   func(place string) error
		want string
	}{
		"moved":    {func(p string) error { return os.WriteFile(p+"/.tmp", []byte("whole"), 0o600) }, ""},
		"part":     {func(p string) error { return os.WriteFile(p+"/.tmp", []byte("who"), 0o600) }, "not whole"},
		"in place": {func(p string) error { return os.WriteFile(p+"/f", []byte("whole"), 0o600) }, "modified"},
	} {
		var mu sync.Mutex
		var said []string
		place := filepath.Join(root, name)
		if err := os.Mkdir(place, 0o700); err != nil {
			t.Fatal(err)
		}
		s := newSentinel(t, place, func(name string) (string, bool) { return digest, name == "f" }, func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, fmt.Sprintf(format, args...))
		})
		err := c.do(place)
		if _, missing := os.Stat(place + "/.tmp"); err == nil && missing == nil {
			err = os.Rename(place+"/.tmp", place+"/f")
		}
		if err != nil {
			t.Fatal(err)
		}
		s.finish()
		if got := strings.Join(said, "; "); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: the sentinel says %q, which should have %q", name, got, c.want)
		}
	}
}

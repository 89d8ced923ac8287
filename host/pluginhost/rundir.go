package pluginhost

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// runDir is a Host's own folder below the runtime directory. It holds the copies of binaries that are executed, and a folder per
// launched process for its sockets and scratch files. A lock on a file in it says that the host is alive.
type runDir struct {
	path     string
	lock     *os.File
	launches atomic.Int64

	mu     sync.Mutex     // guards the rest, and the files that it counts
	images map[string]int // how many use a copy, by its path
}

const (
	lockFile = "lock"
	imageDir = "bin"
	// longestSocket is what may follow a launch folder in the path of a plugin's socket.
	longestSocket = "/plugin4294967295"
	// longestLaunch is the longest name of a launch folder that is allowed for.
	longestLaunch = "/9999999"
	// maxSocketPath is what fits in sockaddr_un on every system, without the final zero.
	maxSocketPath = 103
)

var runDirName = regexp.MustCompile(`^[0-9a-f]{4}$`)

// openRunDir makes a folder below root, and removes what hosts that have died left there. root is made if it does not exist; it
// has to belong to the host's user, and to be closed to all others.
func openRunDir(root string) (*runDir, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if n := len(root) + len("/0000"+longestLaunch+longestSocket); n > maxSocketPath {
		return nil, fmt.Errorf("runtime directory %s is too long: the paths of unix sockets below it would have up to %d bytes, "+
			"and %d is the most; use one of at most %d bytes", root, n, maxSocketPath, len(root)-(n-maxSocketPath))
	}
	if err := makePrivate(root); err != nil {
		return nil, fmt.Errorf("runtime directory: %w", err)
	}
	// Under the lock on root no other host is between making its folder and locking it.
	rootLock, err := lock(filepath.Join(root, lockFile), syscall.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("runtime directory: %w", err)
	}
	defer rootLock.Close()
	if err := sweep(root); err != nil {
		return nil, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	return newRunDir(root)
}

// makePrivate makes a folder for the host's user alone, or checks that it is one.
func makePrivate(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if uid := owner(info); uid != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to the host's user %d", path, uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to other users (mode %04o): it has to have mode 0700", path, info.Mode().Perm())
	}
	return nil
}

// lock opens a file and locks it, with the flags of flock. The lock ends when the file is closed, or the process dies.
func lock(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), how)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, nil
}

// sweep removes the folders of hosts that are no longer alive.
func sweep(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !runDirName.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(root, e.Name())
		alive, err := lock(filepath.Join(path, lockFile), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err == nil {
			alive.Close()
		}
		if err := removeAll(path); err != nil {
			return err
		}
	}
	return nil
}

func newRunDir(root string) (*runDir, error) {
	for {
		var id [2]byte
		rand.Read(id[:])
		path := filepath.Join(root, hex.EncodeToString(id[:]))
		err := os.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = os.Mkdir(filepath.Join(path, imageDir), 0o700)
		}
		if err != nil {
			return nil, fmt.Errorf("runtime directory: %w", err)
		}
		file, err := lock(filepath.Join(path, lockFile), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			return nil, fmt.Errorf("runtime directory: %w", err)
		}
		return &runDir{path: path, lock: file, images: map[string]int{}}, nil
	}
}

// close removes the folder.
func (d *runDir) close() error {
	err := removeAll(d.path)
	return errors.Join(err, d.lock.Close())
}

// launch makes the folder of one process, with a scratch folder in it.
func (d *runDir) launch() (path, scratch string, err error) {
	path = filepath.Join(d.path, strconv.FormatInt(d.launches.Add(1), 10))
	scratch = filepath.Join(path, "scratch")
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return "", "", fmt.Errorf("make scratch folder: %w", err)
	}
	return path, scratch, nil
}

// image makes a copy of an executable, under the digest of its content, by writing it with fill; none if fill finds it not ready.
// What runs is the copy, so nobody can change it between the check and the execution, and the original can be replaced while it
// runs.
func (d *runDir) image(fill func(w io.Writer) Candidate) (Candidate, string, error) {
	file, err := os.CreateTemp(filepath.Join(d.path, imageDir), "new-")
	if err != nil {
		return Candidate{}, "", fmt.Errorf("copy binary: %w", err)
	}
	defer os.Remove(file.Name())
	c, err := d.write(file, fill)
	if err != nil {
		return c, "", fmt.Errorf("copy binary: %w", err)
	}
	if c.Status != StatusReady {
		return c, "", nil
	}
	path := filepath.Join(d.path, imageDir, c.SHA256)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.Rename(file.Name(), path); err != nil {
		return c, "", fmt.Errorf("copy binary: %w", err)
	}
	d.images[path]++
	return c, path, nil
}

// hold is image for a copy that somebody has.
func (d *runDir) hold(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.images[path]++
}

// drop gives a copy back that image made. The last to do so removes it; what runs of it goes on.
func (d *runDir) drop(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.images[path]--; d.images[path] > 0 {
		return nil
	}
	delete(d.images, path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write fills and closes file. A child forked meanwhile would hold it open for writing until it executes its own program, and the
// system refuses to execute a file that is open for writing: the lock keeps forks out.
func (d *runDir) write(file *os.File, fill func(w io.Writer) Candidate) (Candidate, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	w := &errWriter{w: file}
	c := fill(w)
	return c, errors.Join(w.err, file.Chmod(0o500), file.Close())
}

// errWriter keeps the first error of w, to tell it from an error of whoever is read.
type errWriter struct {
	w   io.Writer
	err error
}

func (e *errWriter) Write(p []byte) (int, error) {
	n, err := e.w.Write(p)
	if e.err == nil {
		e.err = err
	}
	return n, err
}

// removeAll is os.RemoveAll for a tree in which a plugin may have made folders that cannot be written to.
func removeAll(path string) error {
	if err := os.RemoveAll(path); err == nil {
		return nil
	}
	filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

package pluginhost

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// Candidate is a file that may be a plugin, or an address of one. Nothing was executed to find out about it.
type Candidate struct {
	// Name of the plugin: that of its Settings, or the file's name without "towpath-plugin-".
	Name string
	Path string
	// Address at which a plugin is dialled. It has no file then.
	Address string
	Size    int64
	// SHA256 of the content in hexadecimal digits, "" if it could not be read.
	SHA256 string
	Owner  int // user id
	Mode   fs.FileMode
	Status Status
	// Reason says why the file may, or may not, be executed.
	Reason string
	// Undecided says that it is untrusted only for want of a decision, see TrustAsk.
	Undecided bool

	misnamed  bool   // its name is why it is untrusted
	signature string // that lies beside it, "" if nobody has asked for one
}

// Status says whether a Candidate can be executed.
type Status string

// The statuses.
const (
	StatusReady         Status = "ready"
	StatusMissing       Status = "missing"            // there are Settings, but no file
	StatusUntrusted     Status = "untrusted"          // the trust policy does not allow it
	StatusNotExecutable Status = "not executable"     // the system would not execute it
	StatusWrongArch     Status = "wrong architecture" // built for another machine
	StatusIncomplete    Status = "incomplete"         // it is still being written
	StatusRetired       Status = "retired"            // an earlier file, whose flows come to an end
	StatusDialled       Status = "dialled"            // it runs by itself, and is not executed
)

const (
	filePrefix = "towpath-plugin-"
	// reportSuffix is that of what `towpath plugins verify` reports, which can lie beside a binary.
	reportSuffix = ".verified.json"
	// maxBinary bounds the time and space that a file in the plugin directory can cost.
	maxBinary = 1 << 30
)

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// Discover lists the files of the plugin directory, and the plugins that have Settings but no file there, by name. It executes
// nothing. The error says that the directory cannot be read.
func (h *Host) Discover() ([]Candidate, error) { return h.discover(nil) }

// gate says why the content of a file is not to be looked at yet.
type gate func(path string, file *os.File) error

func (h *Host) discover(g gate) ([]Candidate, error) {
	paths, err := h.filesByName()
	if err != nil {
		return nil, err
	}
	var all []Candidate
	for name, settings := range h.options.Plugins {
		if settings.Address != "" {
			all = append(all, dialledCandidate(name, settings))
			continue
		}
		path := h.declaredPath(name, settings, paths)
		delete(paths, path)
		all = append(all, h.inspect(name, path, nil, g))
	}
	for path, name := range paths {
		all = append(all, h.inspectUndeclared(name, path, paths, g))
	}
	slices.SortFunc(all, func(a, b Candidate) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Path, b.Path))
	})
	return all, nil
}

// filesByName maps the files of the plugin directory to the plugin names that follow from theirs.
func (h *Host) filesByName() (map[string]string, error) {
	paths := map[string]string{}
	if h.options.Directory == "" {
		return paths, nil
	}
	entries, err := os.ReadDir(h.options.Directory)
	if err != nil {
		return nil, fmt.Errorf("plugin directory: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), signatureSuffix) ||
			strings.HasSuffix(e.Name(), reportSuffix) {
			continue
		}
		paths[filepath.Join(h.options.Directory, e.Name())] = strings.TrimPrefix(e.Name(), filePrefix)
	}
	return paths, nil
}

// declaredPath is where the file of a plugin with Settings should be.
func (h *Host) declaredPath(name string, s Settings, files map[string]string) string {
	if filepath.IsAbs(s.Binary) {
		return s.Binary
	}
	if s.Binary != "" {
		return filepath.Join(h.options.Directory, s.Binary)
	}
	prefixed, bare := filepath.Join(h.options.Directory, filePrefix+name), filepath.Join(h.options.Directory, name)
	if _, ok := files[prefixed]; !ok && files[bare] != "" {
		return bare
	}
	return prefixed
}

// inspectUndeclared is inspect for a file that no Settings name.
func (h *Host) inspectUndeclared(name, path string, files map[string]string, g gate) Candidate {
	c := h.inspect(name, path, nil, g)
	if c.Status == StatusMissing || c.Status == StatusIncomplete {
		return c
	}
	settings, declared := h.options.Plugins[name]
	_, prefixed := files[filepath.Join(h.options.Directory, filePrefix+name)]
	why := ""
	switch {
	case !validName.MatchString(name):
		why = "its name is not the name of a plugin: lower-case letters, digits, '-'"
	case settings.Address != "":
		why = fmt.Sprintf("plugin %q is dialled at %s", name, settings.Address)
	case declared:
		why = fmt.Sprintf("plugin %q has another binary", name)
	case prefixed && filepath.Base(path) == name:
		why = fmt.Sprintf("%s%s takes precedence", filePrefix, name)
	}
	if why != "" {
		c.Status, c.Reason, c.Undecided, c.misnamed = StatusUntrusted, why, false, true
	}
	return c
}

// inspect looks at one file, if the gate lets it, and copies what it hashes to w. Without w, a file that was hashed before and has not been
// touched since is not hashed again.
func (h *Host) inspect(name, path string, w io.Writer, g gate) Candidate {
	c := Candidate{Name: name, Path: path}
	file, err := openRegular(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.Status, c.Reason = StatusMissing, "there is no such file"
		return c
	case err != nil:
		c.Status, c.Reason = StatusNotExecutable, reason(err)
		return c
	}
	defer file.Close()
	if g != nil {
		if err := g(path, file); err != nil {
			c.Status, c.Reason = StatusIncomplete, err.Error()
			return c
		}
	}
	settings := h.options.Plugins[name]
	sign := h.publishers.signature(path, settings.Publisher, h.options.Trust)
	if err := h.digests.read(&c, file, w, &sign); err != nil {
		c.Status, c.Reason = StatusNotExecutable, reason(err)
		return c
	}
	c.signature = sign.text
	c.Status, err = checkExecutable(file, c.Mode)
	if err != nil {
		c.Reason = reason(err)
		return c
	}
	e := evidence{pin: strings.ToLower(settings.SHA256), publisher: settings.Publisher, signer: sign.by, unsigned: sign.missing,
		decision: func() (Decision, bool, error) { return h.options.Decisions(name) }}
	ground, err := h.options.Trust.judge(c, e)
	if err != nil {
		c.Status, c.Reason, c.Undecided = StatusUntrusted, reason(err), errors.As(err, new(undecided))
		return c
	}
	c.Status, c.Reason = StatusReady, ground
	return c
}

// usable says whether there is anything to launch or to dial.
func (c Candidate) usable() bool { return c.Status == StatusReady || c.Status == StatusDialled }

// openRegular opens a file, and nothing that could block or have an effect.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// read fills in what the file says about itself. content reads the file.
func (c *Candidate) read(file *os.File, content io.Reader, w io.Writer) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	c.Size, c.Mode, c.Owner = info.Size(), info.Mode(), owner(info)
	if !c.Mode.IsRegular() {
		return errors.New("it is not a regular file")
	}
	digest := sha256.New()
	if w == nil {
		w = io.Discard
	}
	n, err := io.Copy(io.MultiWriter(digest, w), io.LimitReader(content, maxBinary+1))
	if err != nil {
		return err
	}
	if n > maxBinary {
		return fmt.Errorf("it is larger than %d bytes", maxBinary)
	}
	c.Size, c.SHA256 = n, hex.EncodeToString(digest.Sum(nil))
	return nil
}

// reason is an error without the path that stands beside it anyway.
func reason(err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) && err == error(p) {
		return p.Err.Error()
	}
	return err.Error()
}

package pluginhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Trust is the operator's policy on which files may be executed as plugins.
type Trust string

// The policies. A digest in a plugin's Settings has to match under each of them.
const (
	// TrustPinned executes only files whose digest is in the plugin's Settings.
	TrustPinned Trust = "pinned"
	// TrustDirectory executes files that nobody but root and the host's user can change or replace: the file, its folder and all
	// folders above belong to one of the two, and neither group nor others may write to them. A folder above the plugins' own may be
	// writable if it is sticky, as /tmp is: nobody can then replace what is in it.
	TrustDirectory Trust = "directory"
	// TrustSigned executes only files that one of the publishers in Options has signed, and those whose digest is pinned.
	TrustSigned Trust = "signed"
	// TrustAsk executes only files whose digest someone has decided to trust, see Options.Decisions, and those whose digest is pinned.
	TrustAsk Trust = "ask"
	// TrustOff executes any file.
	TrustOff Trust = "off"
)

// valid says whether t is a policy.
func (t Trust) valid() bool {
	return slices.Contains([]Trust{TrustPinned, TrustSigned, TrustDirectory, TrustAsk, TrustOff}, t)
}

// Decision is that someone has decided to trust a file.
type Decision struct {
	SHA256 string // in lower-case hexadecimal digits
	Path   string // where it was then
	At     time.Time
}

// evidence is what is known for and against a file, besides itself.
type evidence struct {
	pin       string // its digest has to be this one, "" for any
	publisher string // who must have signed it, "" for anyone
	signer    string // the publisher who has signed it
	unsigned  error  // why there is no signer; nil too if nobody has looked
	decision  func() (Decision, bool, error)
}

// judge says why a file must not be executed, or on which ground it may be.
func (t Trust) judge(c Candidate, e evidence) (ground string, err error) {
	switch {
	case e.pin != "" && e.pin != c.SHA256:
		return "", fmt.Errorf("its sha256 is %s, but %s is pinned", c.SHA256, e.pin)
	case (e.publisher != "" || t == TrustSigned && e.pin == "") && e.signer == "":
		return "", e.unsigned
	case e.pin != "":
		return "its sha256 is pinned", nil
	case e.signer != "":
		return fmt.Sprintf("publisher %q has signed it", e.signer), nil
	case t == TrustOff:
		return "trust is off", nil
	case t == TrustPinned:
		return "", errors.New("no sha256 is pinned for it")
	case t == TrustAsk:
		return c.decided(e.decision)
	}
	if err := onlyWritableBy(c.Path, os.Geteuid()); err != nil {
		return "", err
	}
	return "only root and the host's user can write to it", nil
}

// undecided is why a file must not be executed about which somebody can still decide.
type undecided string

func (u undecided) Error() string { return string(u) }

// decided says whether the decision about the candidate's name is about this very file.
func (c Candidate) decided(decision func() (Decision, bool, error)) (ground string, err error) {
	d, ok, err := decision()
	switch {
	case err != nil:
		return "", fmt.Errorf("the decision about it cannot be read: %w", err)
	case !ok:
		return "", undecided(fmt.Sprintf("nobody has decided to trust it: towpath plugins trust %s", c.Name))
	case d.SHA256 != c.SHA256:
		return "", undecided(fmt.Sprintf("its sha256 is %s, but what was trusted on %s has %s: towpath plugins trust %s", c.SHA256,
			d.At.UTC().Format(time.DateOnly), d.SHA256, c.Name))
	}
	return "someone has decided to trust it on " + d.At.UTC().Format(time.DateOnly), nil
}

// onlyWritableBy says who but root and uid could change the file at path, or put another in its place.
func onlyWritableBy(path string, uid int) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if err := checkUpwards(resolved, uid); err != nil {
		return err
	}
	// A link could be turned to another file by whoever can write to its folder.
	folder, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil || folder == filepath.Dir(resolved) {
		return err
	}
	return checkUpwards(filepath.Join(folder, filepath.Base(path)), uid)
}

// checkUpwards checks path and every folder above it. path is absolute and has no links but, perhaps, its last element.
func checkUpwards(path string, uid int) error {
	for p := path; ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err != nil {
			return err
		}
		above := p != path && p != filepath.Dir(path)
		if err := checkEntry(info.Mode(), owner(info), uid, above); err != nil {
			return fmt.Errorf("%s %w", p, err)
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// checkEntry is the rule of TrustDirectory for one file or folder. above says that it is a folder above the one with the plugins.
func checkEntry(mode fs.FileMode, ownedBy, uid int, above bool) error {
	switch {
	case ownedBy != 0 && ownedBy != uid:
		return fmt.Errorf("belongs to user %d", ownedBy)
	case mode&fs.ModeSymlink != 0, mode.Perm()&0o022 == 0, above && mode&fs.ModeSticky != 0:
		return nil
	case mode.Perm()&0o002 != 0:
		return fmt.Errorf("can be written by everyone (mode %04o)", mode.Perm())
	default:
		return fmt.Errorf("can be written by its group (mode %04o)", mode.Perm())
	}
}

func owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

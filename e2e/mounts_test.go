//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ownMounts says, in its environment, that this process has a mount namespace of its own.
const ownMounts = "E2E_OWN_MOUNTS"

// hasOwnMounts reports whether this process can mount what it wants, and nobody else sees it.
func hasOwnMounts() bool { return os.Getenv(ownMounts) != "" }

// runWithOwnMounts runs a test of this binary once more, in a process with a mount namespace of its own: as root if that can, or in a
// user namespace. The error says that there can be none.
func runWithOwnMounts(t *testing.T, name string) error {
	t.Helper()
	flags := uintptr(syscall.CLONE_NEWNS)
	out, err := privately(flags, "-test.run", "^TestOwnMounts$").CombinedOutput()
	if err != nil {
		flags |= syscall.CLONE_NEWUSER
		out, err = privately(flags, "-test.run", "^TestOwnMounts$").CombinedOutput()
	}
	if err != nil {
		return fmt.Errorf("mount in a namespace: %w\n%s", err, out)
	}
	cmd := privately(flags, "-test.run", "^"+name+"$", "-test.timeout", "0", fmt.Sprintf("-test.v=%t", testing.Verbose()))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%s, in a mount namespace of its own: %v", name, err)
	}
	return nil
}

// privately returns the command that runs this binary in namespaces of its own. It ends with this process.
func privately(flags uintptr, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), ownMounts+"=1", "TOWPATH_E2E_BIN="+binaries.folder)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: flags}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd
}

// TestOwnMounts does in a namespace of its own what the kill sweep needs there, which is how that finds out whether it can be had.
func TestOwnMounts(t *testing.T) {
	if hasOwnMounts() {
		mountSmallDisk(t, t.TempDir(), mib)
	}
}

// mountSmallDisk mounts a file system in memory that has room for so many bytes, until the end of the test.
func mountSmallDisk(t testing.TB, folder string, size int64) {
	t.Helper()
	// What is mounted here must not show outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fillDisk takes all the room that is left on the file system of a folder, with a file in it, and returns how much that was.
func fillDisk(ballast string) (int64, error) {
	f, err := os.OpenFile(ballast, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	taken := int64(0)
	for size := int64(1 << 30); size >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, taken, size); err {
		case nil:
			taken += size
		case unix.ENOSPC:
			size /= 2
		case unix.EINTR:
		default:
			return taken, err
		}
	}
	return taken, nil
}

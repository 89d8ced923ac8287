package main

import (
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/towpath-dataplane/towpath/sdk"
)

// full runs f with a limit on the size of a file, which is met by writes in the same place as a full disk.
func full(t *testing.T, limit uint64, f func()) {
	t.Helper()
	// Otherwise a write beyond the limit ends the process.
	signal.Ignore(unix.SIGXFSZ)
	defer signal.Reset(unix.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	lower := old
	lower.Cur = limit
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &lower); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_FSIZE, &old)
	f()
}

func wantExhausted(t *testing.T, err error) {
	t.Helper()
	if e := sdk.AsError(err); e == nil || e.Code != sdk.Exhausted || !e.Retryable {
		t.Fatalf("error %v, want one that is %q and can be retried", err, sdk.Exhausted)
	}
}

func TestDiskFull(t *testing.T) {
	root := t.TempDir()
	var err error
	full(t, 1<<20, func() { err = writeOne(t, root, address(), "large", strings.Repeat("x", 1<<20+1)) })
	wantExhausted(t, err)
	checkTree(t, root)
	if left, _ := temporaries(root); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	if err := writeOne(t, root, address(), "large", "smaller"); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

// TestDiskFullBehindCheckpoint: a host that holds a token can use it when there is room again.
func TestDiskFullBehindCheckpoint(t *testing.T) {
	root := t.TempDir()
	_, sink := newVolume(t, root)
	again := open(address())
	again.ResumeToken = cutInside(t, sink, open(address()))
	var err error
	full(t, 7, func() { err = goOn(t, root, again) })
	wantExhausted(t, err)
	checkTree(t, root)
	checkTree(t, filepath.Dir(temporaryFile(t, root)), filepath.Base(temporaryFile(t, root)), "01234")
	if err := goOn(t, root, again); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	checkTree(t, root, "p", "0123456789")
}

//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// How the kill sweep is asked for more, or for something again.
const (
	sweepSeed = "TOWPATH_SWEEP_SEED" // of the first world
	sweepRuns = "TOWPATH_SWEEP_RUNS" // flows, in worlds of flowsPerWorld each
)

const (
	flowsPerWorld = 120
	shortRuns     = 2 * flowsPerWorld
)

// TestKillSweep lets many flows run, while hosts and plugins are killed and frozen, networks cut, disks filled, and control planes
// change their mind, all at points that a seed picks. In the end every flow is where its control planes want it, every part is there
// once and whole, and was at no time visible otherwise.
//
// Each world is two hosts that live through one schedule of faults. A failure says how to run its world again.
func TestKillSweep(t *testing.T) {
	if !hasOwnMounts() {
		err := runWithOwnMounts(t, t.Name())
		if err == nil {
			return
		}
		fmt.Fprintf(os.Stderr, "%s: NO DISK OF ITS OWN TO FILL (%v): full disks are not exercised, limits on the size of files in their place\n",
			t.Name(), err)
	}
	seed, runs := number(t, sweepSeed, 1), number(t, sweepRuns, shortRuns)
	plugins := sweepPlugins(t)
	worlds := max(1, (runs+flowsPerWorld-1)/flowsPerWorld)
	began := time.Now()
	var all tally
	for i := range worlds {
		world := seed + i
		t.Run(fmt.Sprintf("seed %d", world), func(t *testing.T) {
			all.add(newSweep(t, uint64(world), plugins).run())
		})
	}
	t.Logf("%d worlds in %v: %s", worlds, time.Since(began).Round(time.Second), all)
}

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q is not a number", name, text)
	}
	return n
}

// sweepPlugins puts the plugins into a folder, with the one for records.
func sweepPlugins(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range pluginNames {
		file := "towpath-plugin-" + name
		content, err := os.ReadFile(filepath.Join(binaries.plugins, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := goBuild(filepath.Join(folder, "towpath-plugin-ledger"), "./ledger"); err != nil {
		t.Fatal(err)
	}
	return folder
}

// tally counts what was done.
type tally struct {
	flows, completed, terminated, suspended int
	retries, revivals                       int
	causes                                  map[string]int
	parts, bytes, records                   int64
	faults                                  map[faultKind]int
	byMode                                  map[string]int // completed
}

// setBack counts in a host's log how often a transfer went on from where it was.
func (a *tally) setBack(log string) {
	a.retries += strings.Count(log, `msg="transfer failed and is tried again"`)
	a.revivals += strings.Count(log, `msg="flow revived"`)
	if a.causes == nil {
		a.causes = map[string]int{}
	}
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "is tried again") {
			continue
		}
		for _, cause := range causes {
			if strings.Contains(line, cause) {
				a.causes[cause]++
			}
		}
	}
}

// causes are words by which the log says what a fault has done to a transfer: that the faults of the sweep strike is to be seen.
var causes = []string{
	"signal: killed", "connection reset", "closed the connection", "ended before it was whole", "answer was cut", "no space left", "507", "file too large",
	"disk is full", "disk I/O error", "frozen", "health", "409", "503",
}

func (a *tally) add(b tally) {
	a.flows += b.flows
	a.completed += b.completed
	a.terminated += b.terminated
	a.suspended += b.suspended
	a.retries += b.retries
	a.revivals += b.revivals
	a.parts += b.parts
	a.bytes += b.bytes
	a.records += b.records
	if a.faults == nil {
		a.faults = map[faultKind]int{}
	}
	for kind, n := range b.faults {
		a.faults[kind] += n
	}
	if a.causes == nil {
		a.causes = map[string]int{}
	}
	for cause, n := range b.causes {
		a.causes[cause] += n
	}
	if a.byMode == nil {
		a.byMode = map[string]int{}
	}
	for mode, n := range b.byMode {
		a.byMode[mode] += n
	}
}

func (a tally) String() string {
	text := fmt.Sprintf("%d flows, %d completed, %d terminated, %d suspends, %d retries, %d revivals; %d parts, %d MiB, %d records; completed: %v; faults:",
		a.flows, a.completed, a.terminated, a.suspended, a.retries, a.revivals, a.parts, a.bytes/mib, a.records, a.byMode)
	for _, kind := range faultKinds {
		text += fmt.Sprintf(" %s %d,", kind.kind, a.faults[kind.kind])
	}
	return fmt.Sprintf("%s retries by word: %v", text, a.causes)
}

// limitFileSize bounds the size of the files that a process can write. It need not be there any more.
func limitFileSize(pid int, size uint64) {
	limit := unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}
	unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil)
}

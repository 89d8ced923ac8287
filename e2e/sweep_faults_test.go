//go:build linux

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// faultKind is a way in which something goes wrong.
type faultKind string

const (
	killHost     faultKind = "kill host"
	stopHost     faultKind = "stop host"
	killPlugin   faultKind = "kill plugin"
	killAtEvent  faultKind = "strike at a file's event"
	freezeHost   faultKind = "freeze host"
	freezePlugin faultKind = "freeze plugin"
	leaveFrozen  faultKind = "leave plugin frozen"
	resetNetwork faultKind = "reset network"
	halfClose    faultKind = "half-close network"
	stallNetwork faultKind = "stall network"
	cutNetwork   faultKind = "cut network"
	fullDisk     faultKind = "full disk"
	fullData     faultKind = "full data directory"
	smallFiles   faultKind = "limit on files"
	deafControl  faultKind = "control plane down"
	mumbling     faultKind = "callbacks twice"
)

// faultKinds says how often faults of a kind come, and how long they last at most.
var faultKinds = []struct {
	kind   faultKind
	weight int
	lasts  time.Duration
}{
	{killHost, 10, 600 * time.Millisecond},
	{stopHost, 4, 0},
	{killPlugin, 14, 0},
	{killAtEvent, 28, 600 * time.Millisecond},
	{freezeHost, 5, 1500 * time.Millisecond},
	{freezePlugin, 8, 2 * time.Second},
	{leaveFrozen, 1, 0},
	{resetNetwork, 10, 0},
	{halfClose, 6, 0},
	{stallNetwork, 6, 2 * time.Second},
	{cutNetwork, 6, 1500 * time.Millisecond},
	{fullDisk, 8, 1500 * time.Millisecond},
	{fullData, 8, 1500 * time.Millisecond},
	{smallFiles, 4, time.Second},
	{deafControl, 3, 2 * time.Second},
	{mumbling, 3, time.Second},
}

// fault is something that goes wrong at one of the hosts, at a time, and for a time.
type fault struct {
	at, lasts time.Duration
	kind      faultKind
	host      int    // index
	plugin    string // of faults of plugins, and of those at an event; there also theHost and itsNetwork
	event     string // how the event begins
	seenAt    int    // index into eventPlaces
	where     string // of networks and disks: "" for the host's own, theStore, theBrokers
	way       bool   // which of two
	size      uint64
}

func (f fault) String() string {
	text := fmt.Sprintf("%7.3fs %s at the %s", f.at.Seconds(), f.kind, hostNames[f.host])
	if f.plugin != "" {
		text += ": " + f.plugin
	}
	if f.event != "" {
		text += fmt.Sprintf(", at %q at the %s", f.event, eventPlaces[f.seenAt])
	}
	if f.where != "" {
		text += ", but " + f.where
	}
	if f.lasts > 0 {
		text += fmt.Sprintf(", for %.3fs", f.lasts.Seconds())
	}
	return text
}

// What else is struck at an event than a plugin.
const (
	theHost    = "the host"
	itsNetwork = "its network"
)

// Where else than at hosts something can go wrong.
const (
	theStore   = "the store"
	theBrokers = "the brokers"
)

var hostNames = []string{"provider", "consumer"}

// eventPlaces are where events are seen.
var eventPlaces = append(slices.Clone(hostNames), theStore, theBrokers)

// sweepPluginNames are those that can be hit; the ones that hold most state more often.
var sweepPluginNames = []string{"file", "file", "http", "ledger", "synthetic", "s3", "s3", "kafka", "kafka"}

// events are the ones at which something is struck: files begun, noted as finished, named, at the host itself or the other one, and
// requests to brokers.
var events = []struct {
	names  []string
	place  func(host int, random *rand.Rand) int
	struck []string
}{
	{[]string{"create .towpath/", "move in/", "create in/"}, eitherHost, []string{theHost, theHost, "file", "file", "http", itsNetwork}},
	{[]string{"move rec/", "create .ledger/", "move .ledger/"}, sameHost, []string{theHost, "ledger", "synthetic", "kafka"}},
	{[]string{"create .sgwtmp/", "create in/", "move in/"}, placeAt(2), []string{theHost, "s3", "s3", "file", theStore}},
	{[]string{"InitProducerID", "Produce", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn", "Fetch"}, placeAt(3),
		[]string{theHost, "kafka", "kafka", "ledger", theBrokers}},
}

func eitherHost(_ int, random *rand.Rand) int { return random.IntN(2) }
func sameHost(host int, _ *rand.Rand) int     { return host }

func placeAt(place int) func(int, *rand.Rand) int {
	return func(int, *rand.Rand) int { return place }
}

// newSchedule makes up what goes wrong during so much time.
func newSchedule(random *rand.Rand, length time.Duration) []fault {
	total := 0
	for _, k := range faultKinds {
		total += k.weight
	}
	var schedule []fault
	frozen := false
	for at := 300 * time.Millisecond; at < length; at += between(random, 10*time.Millisecond, 280*time.Millisecond) {
		n, i := random.IntN(total), 0
		for ; n >= faultKinds[i].weight; i++ {
			n -= faultKinds[i].weight
		}
		k := faultKinds[i]
		f := fault{at: at, kind: k.kind, host: random.IntN(2), way: random.IntN(2) == 0}
		if k.lasts > 0 {
			f.lasts = between(random, 20*time.Millisecond, k.lasts)
		}
		switch f.kind {
		case killPlugin, freezePlugin:
			f.plugin = sweepPluginNames[random.IntN(len(sweepPluginNames))]
		case leaveFrozen:
			if frozen {
				continue // the watchdog takes its time; one is enough
			}
			frozen = true
			f.plugin = sweepPluginNames[random.IntN(len(sweepPluginNames))]
		case killAtEvent:
			e := events[random.IntN(len(events))]
			f.event, f.seenAt, f.plugin = e.names[random.IntN(len(e.names))], e.place(f.host, random), e.struck[random.IntN(len(e.struck))]
		case resetNetwork, halfClose, stallNetwork, cutNetwork:
			f.where = []string{"", "", "", theStore, theStore, theBrokers, theBrokers}[random.IntN(7)]
		case fullDisk:
			f.where = []string{"", "", theStore}[random.IntN(3)]
		case smallFiles:
			f.plugin, f.size = "file", 1<<(12+random.IntN(8))
		}
		schedule = append(schedule, f)
	}
	return schedule
}

func between(random *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(random.Int64N(int64(high-low)))
}

// condition is what has become of a host.
type condition struct {
	down, frozen bool
	starting     time.Time     // when it was started again, until it is ready; it is down
	stopping     bool          // in good order, by SIGTERM
	armed        chan struct{} // closed when the host was killed at an event; nil if it is not to be
	full         bool
	dataFull     bool      // there is no room for the host's own store
	hadRoom      time.Time // since when there is
	deaf         bool      // its control plane
}

// begin lets a fault begin. It returns what ends it, nil if nothing does, and false if there was nothing to hit.
func (s *sweep) begin(f fault) (end func(), hit bool) {
	h, c := s.hosts[f.host], &s.conditions[f.host]
	switch f.kind {
	case killHost:
		return s.killHost(f.host)
	case stopHost:
		return nil, s.stopHost(f.host)
	case killPlugin, freezePlugin, leaveFrozen, smallFiles:
		return s.hitPlugin(h, f)
	case killAtEvent:
		return nil, s.arm(f)
	case freezeHost:
		if c.down || c.frozen {
			return nil, false
		}
		c.frozen = true
		h.process.signal(syscall.SIGSTOP)
		return func() {
			c.frozen = false
			h.process.signal(syscall.SIGCONT)
		}, true
	case resetNetwork, halfClose, stallNetwork, cutNetwork:
		return strikeNetwork(s.networkAt(f.host, f.where), f), true
	case fullDisk:
		if f.where == theStore {
			return s.fillDisk(&s.storeFull, s.store.folder)
		}
		return s.fillDisk(&c.full, h.files)
	case fullData:
		return s.fillData(f.host)
	case deafControl:
		if c.deaf {
			return nil, false
		}
		c.deaf = true
		h.controlPlane.stop()
		return func() {
			c.deaf = false
			h.controlPlane.start(s.t)
		}, true
	case mumbling:
		h.controlPlane.mumbles.Store(true)
		return func() { h.controlPlane.mumbles.Store(false) }, true
	}
	return nil, true
}

// networkAt is a host's own network, or another.
func (s *sweep) networkAt(host int, where string) *network {
	switch where {
	case theStore:
		return s.store.network
	case theBrokers:
		return s.kafka.network
	}
	return s.hosts[host].network
}

func strikeNetwork(n *network, f fault) (end func()) {
	switch f.kind {
	case halfClose:
		n.halfClose(f.way)
	case stallNetwork:
		n.stall()
		return n.flow
	case cutNetwork:
		n.refuses.Store(true)
		n.reset()
		return func() { n.refuses.Store(false) }
	default:
		n.reset()
	}
	return nil
}

// killHost kills a host that runs, or one that is just starting.
func (s *sweep) killHost(i int) (end func(), hit bool) {
	c := &s.conditions[i]
	if c.down && c.starting.IsZero() {
		return nil, false
	}
	s.hosts[i].kill()
	c.isDown()
	return func() { s.revive(i) }, true
}

func (c *condition) isDown() {
	c.down, c.starting, c.frozen, c.stopping, c.armed = true, time.Time{}, false, false, nil
}

// stopHost asks a host to end, unless a plugin is frozen, which it would wait for.
func (s *sweep) stopHost(i int) bool {
	h, c := s.hosts[i], &s.conditions[i]
	if c.down || c.frozen || c.stopping {
		return false
	}
	for _, p := range childrenOf(h.process.cmd.Process.Pid) {
		if stat, ok := statOf(p.pid); ok && stat.state == "T" {
			return false
		}
	}
	c.stopping = true
	h.process.signal(syscall.SIGTERM)
	return true
}

// revive starts a host that is down. tend sees to the rest.
func (s *sweep) revive(i int) {
	if c := &s.conditions[i]; c.down && c.starting.IsZero() {
		s.hosts[i].launch()
		c.starting = time.Now()
	}
}

// attend looks after a host that is starting. One that has no room for its store may end, if it says why.
func (s *sweep) attend(i int) {
	h, c := s.hosts[i], &s.conditions[i]
	if h.process.hasExited() {
		full := c.dataFull || c.hadRoom.After(c.starting)
		if text := h.process.stderr.String(); !full || !saysFull(text) {
			s.t.Fatalf("the %s has ended with code %d when it was started again, full disk: %t\n%s", h.name,
				h.process.cmd.ProcessState.ExitCode(), full, text[:min(len(text), 4000)])
		}
		s.note("the %s does not start on a full disk", h.name)
		c.isDown()
		s.after(between(s.random, 20*time.Millisecond, 400*time.Millisecond), func() { s.revive(i) })
		return
	}
	if h.isReady() {
		c.down, c.starting = false, time.Time{}
	} else if time.Since(c.starting) > patience {
		s.t.Fatalf("the %s is not ready %v after it was started again\n%s", h.name, patience, tail(h.process.stderr.String(), 60))
	}
}

// saysFull reports whether a log says that there is no room for what a host has to store, or not for a file so large.
func saysFull(log string) bool {
	return strings.Contains(log, "disk is full") || strings.Contains(log, "no space left") || strings.Contains(log, "file too large") ||
		strings.Contains(log, "disk I/O error")
}

// pluginsOf returns the processes of a host's plugins by their names.
func pluginsOf(h *host) map[string][]child {
	all := map[string][]child{}
	for _, c := range childrenOf(h.process.cmd.Process.Pid) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.pid))
		first, _, _ := strings.Cut(string(line), "\x00")
		if name, ok := strings.CutPrefix(filepath.Base(first), "towpath-plugin-"); ok {
			all[name] = append(all[name], c)
		}
	}
	return all
}

// signal sends a signal to a process, unless it has ended and its id may be another's.
func (c child) signal(s syscall.Signal) {
	if c.alive() {
		syscall.Kill(c.pid, s)
	}
}

func (s *sweep) hitPlugin(h *host, f fault) (end func(), hit bool) {
	if s.conditions[f.host].down {
		return nil, false // a host that cannot ask a plugin what it is does not start
	}
	processes := pluginsOf(h)[f.plugin]
	each := func(do func(child)) func() {
		return func() {
			for _, c := range processes {
				do(c)
			}
		}
	}
	switch f.kind {
	case killPlugin:
		each(func(c child) { c.signal(syscall.SIGKILL) })()
	case smallFiles:
		each(func(c child) { limitFileSize(c.pid, f.size) })()
		end = each(func(c child) { limitFileSize(c.pid, unix.RLIM_INFINITY) })
	default:
		each(func(c child) { c.signal(syscall.SIGSTOP) })()
		end = each(func(c child) { c.signal(syscall.SIGCONT) })
	}
	if f.kind == leaveFrozen {
		end = nil
	}
	return end, len(processes) > 0
}

// arm has a host, one of its plugins or its network struck at the next event of a kind, there or at the other host.
func (s *sweep) arm(f fault) bool {
	h, c := s.hosts[f.host], &s.conditions[f.host]
	if c.down || c.armed != nil {
		return false
	}
	process, plugins, struck := h.process, pluginsOf(h)[f.plugin], make(chan struct{})
	if f.plugin == theHost {
		c.armed = struck
	}
	s.bells[f.seenAt].onNext(func(event string) bool {
		if !strings.HasPrefix(event, f.event) {
			return false
		}
		switch f.plugin {
		case theHost:
			close(struck)
			process.signal(syscall.SIGKILL)
		case itsNetwork, theStore, theBrokers:
			s.networkAt(f.host, f.plugin).reset()
		}
		for _, c := range plugins {
			c.signal(syscall.SIGKILL)
		}
		s.note("struck at %q: %v", event, f)
		return true
	})
	return true
}

// tend brings a host back that has stopped or was killed at an event, and notices when one has ended otherwise.
func (s *sweep) tend() {
	for i, h := range s.hosts {
		c := &s.conditions[i]
		if !c.starting.IsZero() {
			s.attend(i)
		}
		if c.down || !h.process.hasExited() {
			continue
		}
		struck := false
		select {
		case <-c.armed:
			struck = true
		default:
		}
		// One that stops says with its code when a plugin was hit meanwhile.
		if ended := h.process.cmd.ProcessState; !struck && !(c.stopping && (ended.ExitCode() == 0 || ended.ExitCode() == 1)) {
			s.fail("the %s has ended, asked to: %t: %v\n%s", h.name, c.stopping, ended, tail(h.process.stderr.String(), 60))
		}
		c.isDown()
		s.after(between(s.random, 0, 600*time.Millisecond), func() { s.revive(i) })
	}
}

// fillDisk takes all the room below a folder. full says that this is so.
func (s *sweep) fillDisk(full *bool, folder string) (end func(), hit bool) {
	if *full {
		return nil, false
	}
	*full = true
	ballast := filepath.Join(folder, "ballast")
	if _, err := fillDisk(ballast); err != nil {
		s.fail("fill the disk: %v", err)
	}
	return func() {
		*full = false
		if err := os.Remove(ballast); err != nil {
			s.fail("free the disk: %v", err)
		}
	}, true
}

// fillData leaves a host no room for what it stores itself. Without a disk of its own its files may not grow.
func (s *sweep) fillData(i int) (end func(), hit bool) {
	h, c := s.hosts[i], &s.conditions[i]
	var free func()
	if s.ownDisk {
		free, hit = s.fillDisk(&c.dataFull, h.data)
	} else if hit = !c.dataFull && !c.down; hit {
		free = s.limitFiles(h, c)
	}
	if !hit {
		return nil, false
	}
	return func() {
		free()
		c.hadRoom = time.Now()
	}, true
}

// limitFiles bounds the files of a host. Plugins that are launched meanwhile have the limit from it.
func (s *sweep) limitFiles(h *host, c *condition) (end func()) {
	const size = 4096
	c.dataFull = true
	process := h.process
	limitFileSize(process.cmd.Process.Pid, size)
	return func() {
		c.dataFull = false
		if process.hasExited() {
			return
		}
		limitFileSize(process.cmd.Process.Pid, unix.RLIM_INFINITY)
		for _, c := range childrenOf(process.cmd.Process.Pid) {
			limitFileSize(c.pid, unix.RLIM_INFINITY)
		}
	}
}

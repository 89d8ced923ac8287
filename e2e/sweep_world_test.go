//go:build linux

package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// faultTime is how long things go wrong in a world.
	faultTime = 16 * time.Second
	// settleTime bounds what comes after: a watchdog finds a frozen plugin, pauses between attempts end.
	settleTime = 3 * time.Minute
)

// sweep is one world.
type sweep struct {
	t       *testing.T
	seed    uint64
	random  *rand.Rand // of the schedule
	ownDisk bool

	store      *objectStore
	storeDisk  bool // the store has a disk of its own
	storeFull  bool
	kafka      *kafka
	hosts      []*host // as in hostNames
	conditions []condition
	sentinels  []*sentinel // of the hosts' files, and of the store's
	bells      []*bell     // as in eventPlaces
	flows      []*sweepFlow
	byID       map[string]*sweepFlow
	schedule   []fault
	began      time.Time
	late       time.Duration // things go wrong later than planned
	pending    []pendingEnd
	tally      tally

	mu       sync.Mutex // guards what follows
	happened []string
	failed   bool
}

// pendingEnd is something to do at a time, such as the end of a fault.
type pendingEnd struct {
	at time.Time
	do func()
}

// newSweep makes a world from its seed: hosts, flows and faults.
func newSweep(t *testing.T, seed uint64, plugins string) *sweep {
	t.Helper()
	s := &sweep{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), ownDisk: hasOwnMounts(), byID: map[string]*sweepFlow{},
		tally: tally{faults: map[faultKind]int{}, byMode: map[string]int{}}}
	s.schedule = newSchedule(s.random, faultTime)
	for i := range flowsPerWorld {
		f := newSweepFlow(i, rand.New(rand.NewPCG(seed, uint64(i)+1)), s.schedule)
		s.flows = append(s.flows, f)
		s.byID[f.id] = f
	}
	s.buildPlaces()
	for i, name := range hostNames {
		h := newHost(t, name, sweepConfiguration(s.flows), "E2E_PLUGINS="+plugins, "E2E_TRUST=off", "E2E_CHECKPOINT_INTERVAL=50ms",
			"E2E_LANE="+lanes[seed%2], "E2E_QUARANTINE_AFTER=0", "E2E_STORE=http://"+s.store.network.address, "E2E_BROKERS="+s.kafka.address)
		s.hosts, s.conditions = append(s.hosts, h), append(s.conditions, condition{})
		h.network.rate.Store(3 * mib / 2)
		if s.ownDisk {
			mountSmallDisk(t, h.files, s.room())
			mountSmallDisk(t, h.data, dataRoom(t, plugins))
		}
		s.sentinels = append(s.sentinels, newSentinel(t, h.files, s.final, func(format string, args ...any) {
			s.fail(fmt.Sprintf("at the %s, ", hostNames[i])+format, args...)
		}))
	}
	for _, f := range s.flows {
		f.fill(s)
	}
	s.watchPlaces()
	return s
}

// lanes are what payload travels on between hosts and plugins: it is to make no difference.
var lanes = []string{"grpc", "auto"}

// sweepConfiguration has a dataset for each flow.
func sweepConfiguration(flows []*sweepFlow) string {
	var b strings.Builder
	b.WriteString(`
plugin "synthetic" {
  lane             = env("E2E_LANE")
  quarantine_after = 0
}

plugin "ledger" {
  lane             = env("E2E_LANE")
  quarantine_after = 0

  config {
    root = env("E2E_FILES")
  }
}

plugin "s3" {
  lane             = env("E2E_LANE")
  quarantine_after = 0

  config {
    allow               = ["loopback"]
    default_credentials = ["${env("E2E_STORE")}/e2e-*"]
    access_key_id       = "e2e-access-key"
    secret_access_key   = "e2e-secret-access-key"
    part_size           = "5MiB"
    range_size          = "1MiB"
    idle_timeout        = "20s"
  }
}

plugin "kafka" {
  lane             = env("E2E_LANE")
  quarantine_after = 0

  config {
    allow   = ["loopback"]
    timeout = "10s"
  }
}

profile "file-push" {
  type = "File"
}

profile "s3-push" {
  type       = "AmazonS3"
  allow_http = true
}

profile "kafka-push" {
  type = "Kafka"
}

profile "ledger-push" {
  type = "Ledger"
}
`)
	for _, f := range flows {
		b.WriteString(f.dataset())
	}
	return b.String()
}

// dataRoom is what the data directory of a host needs: its store, and copies of the plugins, of a former process too.
func dataRoom(t testing.TB, plugins string) int64 {
	t.Helper()
	room := int64(96 * mib)
	err := walkFiles(plugins, func(_ string, info os.FileInfo) error {
		room += 3 * info.Size()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return room
}

// room is what the disk of a host needs, and a little more.
func (s *sweep) room() int64 {
	room := int64(32 * mib)
	for _, f := range s.flows {
		room += 2 * f.size
	}
	return room
}

// run lets the world run and checks what has become of it.
func (s *sweep) run() tally {
	for _, h := range s.hosts {
		h.launch()
	}
	for _, h := range s.hosts {
		h.awaitReady()
	}
	s.began = time.Now()
	ctx, cancel := context.WithDeadline(s.t.Context(), s.began.Add(faultTime+maxLate+settleTime))
	defer cancel()
	var flows sync.WaitGroup
	for _, f := range s.flows {
		flows.Go(func() {
			if err := f.run(ctx, s); err != nil {
				s.fail("flow %s: %v", f, err)
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		flows.Wait()
		close(ended)
	}()
	s.strikeAll()
	s.settle(ended)
	s.check()
	for _, h := range s.hosts {
		h.stop()
		s.tally.setBack(h.logs())
	}
	for _, sentinel := range s.sentinels {
		sentinel.finish()
	}
	s.checkFolders()
	s.checkPlaces()
	s.report()
	return s.tally
}

// strikeAll goes through the schedule.
func (s *sweep) strikeAll() {
	for _, f := range s.schedule {
		s.waitUntil(s.began.Add(f.at + s.late))
		s.awaitHost(f)
		if f.kind == fullDisk && (!s.ownDisk || f.where == theStore && !s.storeDisk) {
			f.kind, f.where, f.plugin, f.size = smallFiles, "", "file", 4096
		}
		end, hit := s.begin(f)
		if !hit {
			continue
		}
		s.note("%v", f)
		s.tally.faults[f.kind]++
		if end != nil {
			s.after(f.lasts, end)
		}
	}
	s.waitUntil(s.began.Add(faultTime + s.late))
	for _, bell := range s.bells {
		bell.calm()
	}
}

// maxLate is how much later than planned things go wrong, so that they have something to hit, where the machine takes its time.
const maxLate = 20 * time.Second

// awaitHost waits until the host of a fault is there if it is starting, unless that can be hit in its start.
func (s *sweep) awaitHost(f fault) {
	if f.kind == killHost || f.kind == fullData {
		return
	}
	before := time.Now()
	for !s.conditions[f.host].starting.IsZero() && s.late+time.Since(before) < maxLate {
		s.waitUntil(time.Now().Add(5 * time.Millisecond))
	}
	s.late += time.Since(before)
}

// settle ends the faults that have not ended, and waits for the flows.
func (s *sweep) settle(ended <-chan struct{}) {
	s.note("all faults end")
	for _, p := range s.pending {
		p.do()
	}
	s.pending = nil
	for tick := time.Tick(10 * time.Millisecond); ; <-tick {
		s.tend()
		s.endFaults()
		select {
		case <-ended:
			if !slices.ContainsFunc(s.conditions, func(c condition) bool { return c.down || c.stopping }) {
				return
			}
		default:
		}
	}
}

// waitUntil ends faults, and looks after hosts that were killed at an event, until it is time.
func (s *sweep) waitUntil(at time.Time) {
	for time.Now().Before(at) {
		s.tend()
		s.endFaults()
		time.Sleep(min(5*time.Millisecond, max(0, time.Until(at))))
	}
}

func (s *sweep) after(d time.Duration, do func()) {
	s.pending = append(s.pending, pendingEnd{time.Now().Add(d), do})
}

func (s *sweep) endFaults() {
	now := time.Now()
	var due []pendingEnd
	s.pending = slices.DeleteFunc(s.pending, func(p pendingEnd) bool {
		if p.at.After(now) {
			return false
		}
		due = append(due, p)
		return true
	})
	for _, p := range due {
		p.do()
	}
}

// note keeps what has happened for the report of a failure.
func (s *sweep) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.happened = append(s.happened, fmt.Sprintf("%7.3fs ", time.Since(s.began).Seconds())+fmt.Sprintf(format, args...))
}

func (s *sweep) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.note("FAILURE: %s", text)
	s.t.Error(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = true
}

// report says how to run a world again in which something failed.
func (s *sweep) report() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failed {
		return
	}
	s.t.Logf("what happened with seed %d:\n  %s\nAgain:  make torture SEED=%d RUNS=%d", s.seed, strings.Join(s.happened, "\n  "), s.seed,
		flowsPerWorld)
}

// final says what a file below a host's folder has to be if its name is a final one.
func (s *sweep) final(name string) (digest string, ok bool) {
	folder, rest, _ := strings.Cut(name, "/")
	id, part, _ := strings.Cut(rest, "/")
	switch {
	case folder == "in" && part != "":
		if isStoresOwn(part) {
			return "", false
		}
		if f := s.byID[id]; f != nil && f.files[part] != "" {
			return f.files[part], true
		}
		return "of no part", true
	case folder == "rec" && filepath.Base(part) != "journal":
		return "", true
	}
	return "", false
}

// check looks at both hosts once all flows have ended.
func (s *sweep) check() {
	s.tally.flows = len(s.flows)
	for _, f := range s.flows {
		f.check(s)
	}
	for i, h := range s.hosts {
		s.checkProcesses(i, h)
	}
}

// checkProcesses expects that a host runs its plugins once each, and that nothing is open that belongs to a flow.
func (s *sweep) checkProcesses(i int, h *host) {
	var odd []string
	deadline := time.Now().Add(30 * time.Second)
	for {
		if odd = s.oddities(h); len(odd) == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, o := range odd {
		s.fail("the %s, at rest: %s", hostNames[i], o)
	}
}

// maxDescriptors is more than a process at rest has open of each kind: connections for control and payload of a few plugins, HTTP
// connections that wait for a next request, pipes for the output of plugins and those that are kept to splice through.
var maxDescriptors = map[string]int{"unix socket:": 16, "tcp socket:": 48, "pipe:": 96, "": 32}

func tooMany(process string, open []string) (odd []string) {
	count := map[string]int{}
	for _, o := range open {
		kind, _, _ := strings.Cut(o, "[")
		if maxDescriptors[kind] == 0 {
			kind = ""
		}
		count[kind]++
	}
	for kind, n := range count {
		if n > maxDescriptors[kind] {
			odd = append(odd, fmt.Sprintf("%s has %d descriptors of kind %q: %s", process, n, kind, strings.Join(open, ", ")))
		}
	}
	return odd
}

func (s *sweep) oddities(h *host) (odd []string) {
	processes := map[string][]int{"host": {h.process.cmd.Process.Pid}}
	for name, all := range pluginsOf(h) {
		for _, c := range all {
			processes[name] = append(processes[name], c.pid)
		}
		if len(all) != 1 {
			odd = append(odd, fmt.Sprintf("%d processes of plugin %s", len(all), name))
		}
	}
	if n := len(childrenOf(h.process.cmd.Process.Pid)); n != len(processes)-1 || n != len(pluginNames)+1 {
		odd = append(odd, fmt.Sprintf("%d children, of plugins %v", n, processes))
	}
	for name, pids := range processes {
		for _, pid := range pids {
			open := descriptors(pid)
			odd = append(odd, tooMany(name, open)...)
			for _, o := range open {
				if strings.HasPrefix(o, h.files+"/") || strings.HasSuffix(o, "(deleted)") {
					odd = append(odd, fmt.Sprintf("%s has %s open", name, o))
				}
			}
		}
	}
	if folders, _ := filepath.Glob(h.data + "/run/*/*/scratch"); len(folders) != len(pluginNames)+1 {
		odd = append(odd, fmt.Sprintf("launches have left %v", folders))
	}
	if scratch, _ := filepath.Glob(h.data + "/run/*/*/scratch/*"); len(scratch) > 0 {
		odd = append(odd, fmt.Sprintf("plugins have left %v", scratch))
	}
	code, text, err := fetch(h.admin+"/metrics", "")
	if err != nil || code != http.StatusOK || !strings.Contains(text, "\ntowpath_transfers_running 0\n") {
		odd = append(odd, fmt.Sprintf("transfers run, or its metrics do not say: %d %v", code, err))
	}
	return odd
}

// descriptors lists what a process has open. Of a socket it says of which family it is.
func descriptors(pid int) (open []string) {
	families := map[string]string{}
	for _, family := range []string{"unix", "tcp"} {
		table, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, family))
		for line := range strings.Lines(string(table)) {
			for _, field := range strings.Fields(line)[6:] { // the inode is in one of them
				families[field] = family
			}
		}
	}
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(folder, e.Name()))
		if err != nil {
			continue
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			target = cmp.Or(families[strings.TrimSuffix(inode, "]")], "other") + " " + target
		}
		open = append(open, target)
	}
	slices.Sort(open)
	return open
}

// checkFolders expects nothing but what flows have brought, once the hosts have stopped.
func (s *sweep) checkFolders() {
	for _, h := range s.hosts {
		for _, folder := range []string{h.files + "/.towpath", h.files + "/.ledger"} {
			if left, _ := os.ReadDir(folder); len(left) > 0 {
				s.fail("the %s has left %v in %s", h.name, left, filepath.Base(folder))
			}
		}
		found := readTree(s.t, h.files+"/in")
		for name := range found {
			id, _, _ := strings.Cut(name, "/")
			if f := s.byID[id]; f == nil || s.hosts[f.sink()] != h {
				s.fail("%s at the %s belongs to no flow", name, h.name)
			}
		}
		if left, _ := filepath.Glob(h.data + "/run/*"); len(left) > 1 {
			s.fail("the %s has left %v", h.name, left)
		}
	}
}

// signal sends a signal for as long as nobody takes it: a host that is down, or one that cannot do it now.
func (s *sweep) signal(ctx context.Context, h *host, path string, m message) (answer, error) {
	if m["messageId"] == nil {
		m["messageId"] = newID()
	}
	body, err := json.Marshal(m)
	if err != nil {
		return answer{}, err
	}
	for {
		a, err := h.post(path, body)
		if err == nil && a.code == http.StatusInternalServerError {
			s.fail("%s of the %s: %d %s", path, h.name, a.code, a.text)
		}
		if err == nil && a.code < 500 && a.code != http.StatusTooManyRequests {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return a, fmt.Errorf("%s of the %s is not taken: %d %s %v", path, h.name, a.code, a.text, err)
		case <-time.After(40 * time.Millisecond):
		}
	}
}

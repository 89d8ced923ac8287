//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// sweepFlow is one flow of a world: what it moves, and what its control planes do with it.
type sweepFlow struct {
	id        string
	mode      string
	at        int // the host of what moves within one
	begins    time.Duration
	pauses    []pause
	terminate time.Duration // after its start; 0: never
	collision string
	async     bool // prepare and start are answered before they are done

	seed    [32]byte
	shape   []shape
	files   tree
	size    int64
	form    string // of the ledger
	parts   int64
	records int64 // in each part

	// Of topics:
	partitions    int64 // of the one that is read; message n is in the one of n modulo their number
	transactional bool

	// What became of it.
	started    time.Time
	terminated bool
	suspended  int
}

type shape struct {
	name string
	size int64
}

// pause is a suspend after some time, and a resume.
type pause struct{ after, lasts time.Duration }

// partNames need care on their way through URLs, headers and folders.
var partNames = []string{
	"a.bin", "b/c.bin", "b/d/e f & ü%41.bin", "b/one+plus=two?.txt", "c#d;e,f.bin", `it's "quoted".bin`, ".hidden/.file", "z/deep/deeper/deepest.data",
	"no extension", "日本語/ファイル.dat", "a (1).bin", "%2e%2e/x.bin", "x.done", "~tilde^caret`tick|bar.bin",
}

// newSweepFlow makes up a flow.
func newSweepFlow(i int, random *rand.Rand, schedule []fault) *sweepFlow {
	f := &sweepFlow{id: fmt.Sprintf("f%03d", i), at: random.IntN(2), begins: between(random, 0, faultTime*9/10), collision: "fail"}
	f.mode = modes[random.IntN(len(modes))]
	for k := range f.seed {
		f.seed[k] = byte(random.Uint32())
	}
	if random.IntN(3) == 0 {
		f.collision = "rename"
	}
	f.async = random.IntN(4) == 0
	if f.ofRecords() {
		f.recordShapes(random)
	} else {
		f.shapes(random)
	}
	if f.mode == modeLocal { // over in an instant: it has to be under way when something happens
		f.begins = max(0, schedule[random.IntN(len(schedule))].at-between(random, 0, 50*time.Millisecond))
	}
	for random.IntN(6) == 0 {
		f.pauses = append(f.pauses, pause{between(random, 0, time.Second), between(random, 0, 600*time.Millisecond)})
	}
	if random.IntN(10) == 0 {
		f.terminate = between(random, time.Millisecond, 2*time.Second)
	}
	return f
}

// shapes makes up the parts: few or several, empty, tiny, of the size of buffers, and large.
func (f *sweepFlow) shapes(random *rand.Rand) {
	names := slices.Clone(partNames)
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:1+random.IntN(7)] {
		var size int64
		switch random.IntN(8) {
		case 0:
		case 1, 2:
			size = random.Int64N(5000)
		case 3:
			size = 192<<10 - 1 + random.Int64N(3)
		case 4, 5, 6:
			size = random.Int64N(400_000)
		case 7:
			size = random.Int64N(3 * mib)
			if f.toStore() && random.IntN(2) == 0 {
				size = random.Int64N(13 * mib) // uploads have parts of 5 MiB
			}
		}
		f.shape = append(f.shape, shape{name, size})
		f.size += size
	}
}

func (f *sweepFlow) String() string {
	return fmt.Sprintf("%s (%s, %d bytes, begins at %v)", f.id, f.mode, f.size, f.begins.Round(time.Millisecond))
}

// dataset is the flow's in the configuration of both hosts.
func (f *sweepFlow) dataset() string {
	mode := "auto"
	if f.async {
		mode = "async"
	}
	return fmt.Sprintf("\ndataset %q {\n  mode = %q\n\n  %s\n\n  sink \"File\" {\n    path = \"in/%s\"\n    collision = %q\n  }\n}\n",
		f.id, mode, f.sourceBlock(), f.id, f.collision)
}

// source and sink are the hosts at both ends, moves the one that moves.
func (f *sweepFlow) source() int {
	if f.within() {
		return f.at
	}
	return 0
}

func (f *sweepFlow) sink() int {
	if f.within() {
		return f.at
	}
	return 1
}

func (f *sweepFlow) moves() int {
	if f.mode == modePull {
		return 1
	}
	return f.source()
}

// within reports whether one host moves the data from one of its plugins to another.
func (f *sweepFlow) within() bool { return f.mode != modePush && f.mode != modePull }

// fill writes what the flow is to move.
func (f *sweepFlow) fill(s *sweep) {
	s.t.Helper()
	switch f.mode {
	case modeRecords, modeToTopic: // made up as it is read
	case modeToLedger, modeTopics:
		f.fillTopic(s.t, s.kafka)
	case modeStore:
		folder := s.t.TempDir()
		f.fillFolder(s.t, folder)
		s.store.put(s.t, sweepBucket, "out/"+f.id+"/", folder)
	default:
		f.fillFolder(s.t, filepath.Join(s.hosts[f.source()].files, "out", f.id))
	}
	if f.toTopic() {
		s.kafka.makeTopic("in-"+f.id, 1+int32(f.partitions))
	}
}

func (f *sweepFlow) fillFolder(t testing.TB, folder string) {
	t.Helper()
	random := rand.NewChaCha8(f.seed)
	for _, s := range f.shape {
		writeRandom(t, filepath.Join(folder, s.name), random, s.size)
	}
	f.files = readTree(t, folder)
}

// side is a host that knows the flow, by an id of its own.
type side struct {
	host *host
	id   string
}

// sides returns the one that moves, and the one that serves, which there need not be.
func (f *sweepFlow) sides(s *sweep) (moving side, serving *side) {
	both := []side{{s.hosts[0], f.id + "-p"}, {s.hosts[1], f.id + "-c"}}
	if f.within() {
		return side{s.hosts[f.at], f.id + "-p"}, nil
	}
	return both[f.moves()], &both[1-f.moves()]
}

// run plays the flow's control planes until they are done with it.
func (f *sweepFlow) run(ctx context.Context, s *sweep) error {
	if err := sleep(ctx, time.Until(s.began.Add(f.begins))); err != nil {
		return err
	}
	if err := f.start(ctx, s); err != nil {
		return err
	}
	f.started = time.Now()
	if f.terminate > 0 {
		if done := f.awaitCompleted(ctx, s, f.terminate) == nil; !done {
			if err := f.end(ctx, s, "terminate"); err != nil || f.terminated {
				return err
			}
		}
	}
	for _, p := range f.pauses {
		if f.awaitCompleted(ctx, s, p.after) == nil {
			break
		}
		if err := f.pause(ctx, s, p); err != nil {
			return err
		}
	}
	if err := f.awaitCompleted(ctx, s, time.Hour); err != nil {
		return err
	}
	// It is said to be completed, so everything is there.
	if err := f.checkSink(s); err != nil {
		return fmt.Errorf("when completed: %w", err)
	}
	return f.end(ctx, s, "completed")
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// start has both sides agree, and the flow begins.
func (f *sweepFlow) start(ctx context.Context, s *sweep) error {
	moving, serving := f.sides(s)
	switch f.mode {
	case modePush:
		address, err := f.create(ctx, s, *serving, "prepare", "http-push", nil)
		if err != nil {
			return err
		}
		if _, err = f.create(ctx, s, moving, "start", "http-push", address); err != nil {
			return err
		}
		return f.take(ctx, s, *serving, "started", nil)
	case modePull:
		if _, err := f.create(ctx, s, moving, "prepare", "http-pull", nil); err != nil {
			return err
		}
		address, err := f.create(ctx, s, *serving, "start", "http-pull", nil)
		if err != nil {
			return err
		}
		return f.take(ctx, s, moving, "started", address)
	}
	profile, address := f.destination(s)
	_, err := f.create(ctx, s, moving, "start", profile, address)
	return err
}

// localAddress is one that a plugin of the same host writes to.
func localAddress(endpointType string, properties ...string) *dataAddress {
	a := &dataAddress{Type: "DataAddress", EndpointType: endpointType}
	for i := 0; i < len(properties); i += 2 {
		a.EndpointProperties = append(a.EndpointProperties, endpointProperty{"EndpointProperty", properties[i], properties[i+1]})
	}
	return a
}

// create sends a prepare or start, and waits until that is done.
func (f *sweepFlow) create(ctx context.Context, s *sweep, at side, signal, profile string, address *dataAddress) (*dataAddress, error) {
	a, err := s.signal(ctx, at.host, signal, creation(at.id, profile, f.id, address))
	if err != nil {
		return nil, err
	}
	switch a.code {
	case http.StatusOK:
		return a.DataAddress, nil
	case http.StatusAccepted:
	default:
		return nil, fmt.Errorf("%s at the %s: %d %s", signal, at.host.name, a.code, a.text)
	}
	kind := map[string]string{"prepare": "prepared", "start": "started"}[signal]
	for {
		for _, said := range at.host.controlPlane.about(at.id) {
			switch said.Kind {
			case kind:
				return said.DataAddress, nil
			case "errored":
				return nil, fmt.Errorf("%s at the %s: errored: %s", signal, at.host.name, said.Error)
			}
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("%s at the %s was answered with 202, and nothing came: %w", signal, at.host.name, err)
		}
	}
}

// take sends a signal that has to be taken.
func (f *sweepFlow) take(ctx context.Context, s *sweep, at side, signal string, address *dataAddress) error {
	_, err := f.ask(ctx, s, at, signal, address, http.StatusOK)
	return err
}

// ask sends a signal and expects one of some codes.
func (f *sweepFlow) ask(ctx context.Context, s *sweep, at side, signal string, address *dataAddress, codes ...int) (answer, error) {
	m := message{"messageId": newID()}
	if address != nil {
		m["dataAddress"] = address
	}
	a, err := s.signal(ctx, at.host, at.id+"/"+signal, m)
	if err == nil && !slices.Contains(codes, a.code) {
		err = fmt.Errorf("%s at the %s: %d %s", signal, at.host.name, a.code, a.text)
	}
	return a, err
}

// pause suspends the flow, first where it moves, and resumes it, first where it is served.
func (f *sweepFlow) pause(ctx context.Context, s *sweep, p pause) error {
	moving, serving := f.sides(s)
	a, err := f.ask(ctx, s, moving, "suspend", nil, http.StatusOK, http.StatusConflict)
	if err != nil || a.code == http.StatusConflict { // it has come to its end first
		return err
	}
	f.suspended++
	if serving != nil {
		if err := f.take(ctx, s, *serving, "suspend", nil); err != nil {
			return err
		}
	}
	if err := sleep(ctx, p.lasts); err != nil {
		return err
	}
	var address *dataAddress
	if serving != nil {
		resumed, err := f.ask(ctx, s, *serving, "resume", nil, http.StatusOK)
		if err != nil {
			return err
		}
		if address = resumed.DataAddress; address == nil {
			return fmt.Errorf("resume at the %s gives no address: %s", serving.host.name, resumed.text)
		}
	}
	return f.take(ctx, s, moving, "resume", address)
}

// end tells both sides that it is over. A flow that is COMPLETED is not terminated any more.
func (f *sweepFlow) end(ctx context.Context, s *sweep, signal string) error {
	moving, serving := f.sides(s)
	if signal == "terminate" {
		a, err := f.ask(ctx, s, moving, "terminate", nil, http.StatusOK, http.StatusConflict)
		if err != nil || a.code == http.StatusConflict {
			return err
		}
		f.terminated = true
	}
	if serving == nil {
		return nil
	}
	return f.take(ctx, s, *serving, signal, nil)
}

// awaitCompleted waits for so long until the side that moves says that it is done.
func (f *sweepFlow) awaitCompleted(ctx context.Context, s *sweep, patience time.Duration) error {
	moving, _ := f.sides(s)
	deadline := time.Now().Add(patience)
	for {
		for _, said := range moving.host.controlPlane.about(moving.id) {
			switch said.Kind {
			case "completed":
				return nil
			case "errored":
				return fmt.Errorf("the %s reports: %s", moving.host.name, said.Error)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not completed after %v", patience)
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("not completed in time: %s", f.describe(s))
		}
	}
}

// describe says how the flow stands, for the report of a failure.
func (f *sweepFlow) describe(s *sweep) string {
	moving, serving := f.sides(s)
	text := ""
	for _, at := range []*side{&moving, serving} {
		if at != nil {
			d, err := f.detail(*at)
			text += fmt.Sprintf("%s: %s, %d parts, %d bytes, waiting %q, fault %q, callbacks %v, %v; ", at.host.name, d.State, d.Parts, d.Bytes,
				d.Waiting, d.Fault, d.Callbacks, err)
		}
	}
	return text
}

func (f *sweepFlow) detail(at side) (d flowDetail, err error) {
	code, text, err := fetch(at.host.admin+"/api/v1/flows/"+at.id, "")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%d %s", code, text)
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &d)
	}
	return d, err
}

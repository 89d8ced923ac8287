package flow_test

import (
	"errors"
	"os"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// TestChaos sends signals at random to a data plane whose disk, plugins and process fail at random, and holds it against what a
// control plane may rely on. TOWPATH_CHAOS is how many seeds are tried; TOWPATH_CHAOS_SEED tries one.
func TestChaos(t *testing.T) {
	first, runs := uint64(1), number(t, "TOWPATH_CHAOS", 5)
	if seed := number(t, "TOWPATH_CHAOS_SEED", 0); seed > 0 {
		first, runs = uint64(seed), 1
	}
	tally := map[string]int{}
	for seed := first; seed < first+uint64(runs) && !t.Failed(); seed++ {
		inChaos(t, seed, func(c *chaos) {
			c.run(300)
			for what, n := range c.tally {
				tally[what] += n
			}
		})
	}
	t.Logf("%v", tally)
}

func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// told is a message with its answer.
type told struct {
	send    func(*flow.Engine) (flow.Status, error)
	op      flow.Signal
	status  flow.Status
	refused bool
}

func (c *chaos) run(steps int) {
	var senders sync.WaitGroup
	for range steps {
		switch {
		case c.one(40):
			c.crash()
		case c.one(3): // with others at the same time
			senders.Go(c.step)
		default:
			c.step()
		}
		if c.one(2) {
			time.Sleep(c.upTo(4 * time.Second))
		}
		c.deliver()
	}
	senders.Wait()
	c.settle()
	c.finish()
	c.end()
}

const chaosFlows = 40

// step sends one signal, or one that was sent before, or does what an operator does.
func (c *chaos) step() {
	key := chaosKey(c.n(chaosFlows))
	switch {
	case c.one(6):
		c.repeat(key)
	case c.one(12):
		c.now().Retry(bg, key)
	case c.one(8):
		c.visit(key)
	default:
		c.send(c.signal(key))
	}
}

// signal is a new message for a flow: one that its state asks for, or any.
func (c *chaos) signal(key flow.Key) *told {
	f, err := c.memory.Flow(bg, key)
	state := flow.State("")
	if err == nil {
		state = f.State
	}
	ops := map[flow.State][]flow.Signal{
		"":             {flow.SignalStart, flow.SignalPrepare},
		flow.Preparing: {flow.SignalPrepare, flow.SignalTerminate},
		flow.Prepared:  {flow.SignalStarted},
		flow.Starting:  {flow.SignalTerminate},
		flow.Started:   {flow.SignalSuspend, flow.SignalSuspend, flow.SignalCompleted},
		flow.Suspended: {flow.SignalResume, flow.SignalResume, flow.SignalTerminate},
	}[state]
	if len(ops) == 0 || c.one(6) {
		ops = []flow.Signal{flow.SignalStart, flow.SignalPrepare, flow.SignalStarted, flow.SignalSuspend, flow.SignalResume,
			flow.SignalTerminate, flow.SignalCompleted}
	}
	return c.message(key, ops[c.n(len(ops))])
}

func (c *chaos) message(key flow.Key, op flow.Signal) *told {
	c.guard.Lock()
	m := message(key.ID)
	c.guard.Unlock()
	there := &sdk.DataAddress{Type: "pull", Endpoint: "https://there"}
	create := flow.Create{Message: m, DatasetID: "data", CounterPartyID: "them"}
	create.Profile = []string{"pull", "push", "auto/pull", "async/pull", "auto/push", "async/push", "sync/pull", "provisioned/pull",
		"response/pull", "response/push", "carried/pull", "carried/push", "twice/pull"}[c.n(13)]
	if op == flow.SignalStart && (create.Profile[len(create.Profile)-4:] == "push") {
		create.DataAddress = there
	}
	if c.one(2) {
		left := make(chan struct{})
		time.AfterFunc(c.upTo(time.Second), func() { close(left) })
		create.Answered = left
	}
	return &told{op: op, send: func(e *flow.Engine) (flow.Status, error) {
		switch op {
		case flow.SignalStart:
			return e.Start(bg, create)
		case flow.SignalPrepare:
			return e.Prepare(bg, create)
		case flow.SignalStarted:
			return e.Started(bg, m, there)
		case flow.SignalSuspend:
			return e.Suspend(bg, m, "")
		case flow.SignalResume:
			return e.Resume(bg, m, nil)
		case flow.SignalTerminate:
			return e.Terminate(bg, m, "")
		}
		return e.Completed(bg, m)
	}, status: flow.Status{Key: key}}
}

// send sends a message and keeps its answer, if that has to be the same for ever.
func (c *chaos) send(s *told) {
	key := s.status.Key
	status, err := s.send(c.now().Engine)
	s.refused = errors.As(err, new(*flow.StateError))
	switch {
	case err == nil:
		s.status = status
		c.count(string(s.op) + " taken")
	case s.refused:
		c.count(string(s.op) + " refused")
	default:
		c.count(string(s.op) + " failed")
		return
	}
	c.guard.Lock()
	c.told[key] = append(c.told[key], s)
	c.guard.Unlock()
	if err == nil && s.op == flow.SignalTerminate {
		c.acknowledged(key)
	}
}

// acknowledged notes what there is of a flow when its terminate was: from now on nothing is said about it, and nothing runs.
func (c *chaos) acknowledged(key flow.Key) {
	all, err := c.memory.Callbacks(bg, key)
	if err != nil {
		c.t.Error(err)
	}
	for _, one := range all {
		if one.Status != flow.CallbackCancelled && one.Status != flow.CallbackDelivered {
			c.t.Errorf("flow %s is terminated, and a callback is %s", key, one.Status)
		}
	}
	if c.plugins.moves(key) || c.plugins.moves(responsesOf(key)) {
		c.t.Errorf("flow %s is terminated, and its transfer runs", key)
	}
	c.guard.Lock()
	defer c.guard.Unlock()
	c.ended[key] = len(all)
}

// repeat sends a message again that was answered.
func (c *chaos) repeat(key flow.Key) {
	c.guard.Lock()
	all := c.told[key]
	c.guard.Unlock()
	if len(all) == 0 {
		return
	}
	s := all[c.n(len(all))]
	status, err := s.send(c.now().Engine)
	switch {
	case errors.Is(err, errDisk), errors.Is(err, errDead), errors.Is(err, flow.ErrClosed):
	case s.refused != errors.As(err, new(*flow.StateError)), !s.refused && (err != nil || !reflect.DeepEqual(status, s.status)):
		c.t.Errorf("%s of flow %s was answered %+v (refused %v), and when it was repeated %+v, %v", s.op, key, s.status, s.refused, status, err)
	default:
		c.count("repeated")
	}
}

// visit is a counterparty's request.
func (c *chaos) visit(key flow.Key) {
	join := c.now().Join
	if c.one(2) {
		join = c.now().Responses().Join
	}
	j, err := join(bg, key)
	if err != nil {
		return
	}
	c.count("visits")
	stay, gone := c.upTo(10*time.Second), c.plugins.death()
	go func() {
		select {
		case <-time.After(stay):
		case <-j.Context.Done():
		case <-gone:
		}
		j.Leave()
	}()
}

// deliver plays the control plane: it takes some of the callbacks that are due, refuses some for good, and does not answer to others.
func (c *chaos) deliver() {
	due, err := c.memory.Due(bg, time.Now(), 100)
	if err != nil {
		c.t.Error(err)
	}
	for _, one := range due {
		switch {
		case c.one(2):
			one.Status = flow.CallbackDelivered
		case c.one(4):
			one.Status = flow.CallbackFailed
		default:
			continue
		}
		if err := c.memory.Settle(bg, one); err != nil {
			c.t.Error(err)
		}
	}
}

// settle lets everything work again, waits, and looks at what has become of the flows.
func (c *chaos) settle() {
	c.now().disk.set(0)
	c.plugins.setCalm(true)
	time.Sleep(time.Hour)
	for n := range chaosFlows {
		key := chaosKey(n)
		f, err := c.memory.Flow(bg, key)
		if err != nil {
			continue
		}
		c.count(string(f.State))
		c.check(f)
	}
}

// check holds a flow that has had the time it needs against its state.
func (c *chaos) check(f *flow.Flow) {
	wrong := func(what string) {
		c.t.Helper()
		c.t.Errorf("flow %s, %s, %s of a %s, %s, fault %q: %s", f.Key, f.Profile, f.Direction, f.Role, f.State, f.Fault, what)
	}
	moves := c.plugins.moves(f.Key) || c.plugins.moves(responsesOf(f.Key))
	if f.State == flow.Started && f.Response != nil {
		c.checkChannel(f, wrong)
	}
	switch {
	case f.State == flow.Preparing || f.State == flow.Starting:
		if f.Fault == "" {
			wrong("nobody works on it, and it does not say why")
		}
	case f.State == flow.Started && f.Moves():
		if f.Fault == "" {
			wrong("it should have completed, or say why not")
		}
	case f.State == flow.Started && f.Serves() || f.State == flow.Prepared && f.Direction == flow.Push:
		if f.Issued == nil || !c.endpoint.works(f.Issued) {
			wrong("the address that was handed out does not work")
		}
	case f.State.Final():
		// A start that died before its flow was stored leaves a token for a flow that does not serve, which so opens nothing.
		if n := c.endpoint.tokens(f.Key); (f.Serves() || f.Response != nil) && n > 0 || f.Issued != nil || f.Response != nil && f.Response.Issued != nil {
			wrong("a token is left")
		}
		// What a start has provisioned that died before its flow was stored is for the next one that asks for the same.
		writes, answers := f.Target != nil || f.Role == flow.Consumer || f.Direction == flow.Push, f.Response != nil && f.Response.Target != nil
		if f.Leftover || writes && c.plugins.holds(f.Key) || answers && c.plugins.holds(responsesOf(f.Key)) {
			wrong("its sink was not told")
		}
	}
	if moves && f.State != flow.Started {
		wrong("a transfer runs")
	}
	c.checkCallbacks(f)
}

// responsesOf is what plugins call the response channel of a flow.
func responsesOf(key flow.Key) flow.Key {
	return flow.Key{Context: key.Context, ID: key.ID + "/responses"}
}

// checkChannel holds the response channel of a flow that is STARTED against what was said of it.
func (c *chaos) checkChannel(f *flow.Flow, wrong func(string)) {
	c.count("channels")
	switch {
	case f.Response.Issued == nil:
		wrong("its response channel is not open")
	case f.Response.Target == nil && !c.endpoint.works(f.Response.Issued):
		wrong("the token of its response channel does not work")
	case f.Response.Target != nil && !c.plugins.holds(responsesOf(f.Key)):
		wrong("what carries its response channel is gone")
	case f.Response.Target != nil && !c.plugins.moves(responsesOf(f.Key)) && f.Response.Fault == "":
		wrong("nobody reads its response channel, and it does not say why")
	}
}

// checkCallbacks holds what was said about a flow against what may be said, and in which order.
func (c *chaos) checkCallbacks(f *flow.Flow) {
	all, err := c.memory.Callbacks(bg, f.Key)
	if err != nil {
		c.t.Error(err)
	}
	seen := map[flow.CallbackKind]int{}
	for i, one := range all {
		seen[one.Kind]++
		if seen[flow.CallbackCompleted] > 0 && i < len(all)-1 {
			c.t.Errorf("flow %s: a callback follows completed", f.Key)
		}
		if one.Kind != flow.CallbackErrored && seen[one.Kind] > 1 {
			c.t.Errorf("flow %s: %s was said twice", f.Key, one.Kind)
		}
		if i > 0 && one.ID <= all[i-1].ID {
			c.t.Errorf("flow %s: callback %d after %d", f.Key, one.ID, all[i-1].ID)
		}
	}
	c.guard.Lock()
	n, ended := c.ended[f.Key]
	c.guard.Unlock()
	if ended && len(all) != n {
		c.t.Errorf("flow %s: something was said after its terminate was acknowledged", f.Key)
	}
	if f.State == flow.Terminated {
		for _, one := range all {
			if one.Status == flow.CallbackPending || one.Status == flow.CallbackFailed {
				c.t.Errorf("flow %s is terminated, and a callback is %s", f.Key, one.Status)
			}
		}
	}
}

// finish terminates what is left, and looks again.
func (c *chaos) finish() {
	for n := range chaosFlows {
		key := chaosKey(n)
		f, err := c.memory.Flow(bg, key)
		if err != nil || f.State.Final() {
			continue
		}
		if status, err := c.message(key, flow.SignalTerminate).send(c.now().Engine); err != nil || status.State != flow.Terminated {
			c.t.Errorf("terminate of flow %s: %v, %v", key, status, err)
		}
	}
	time.Sleep(time.Hour)
	for n := range chaosFlows {
		key := chaosKey(n)
		c.repeat(key)
		f, err := c.memory.Flow(bg, key)
		if err == nil {
			c.check(f)
		}
		if err != nil && (c.plugins.holds(key) || c.plugins.holds(responsesOf(key))) {
			c.count("held without a flow") // its process died before it could say so; the same start finds it
		}
	}
}

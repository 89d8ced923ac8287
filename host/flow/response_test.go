package flow_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// open says what a message on the response channel of a flow meets: "open", a state, or "none".
func (w *world) open(id string) string {
	w.t.Helper()
	j, err := w.Responses().Join(bg, key(id))
	var state *flow.StateError
	switch {
	case err == nil:
		j.Leave()
		return "open"
	case errors.As(err, &state):
		return string(state.State)
	case errors.Is(err, flow.ErrNotFound):
		return "none"
	}
	w.t.Fatal(err)
	return ""
}

// The channel is open in STARTED and in no other state, whatever the direction and whatever led there.
func TestResponseChannelFollowsTheState(t *testing.T) {
	start := func(profile string) func(*world) error {
		return func(w *world) error { _, err := w.Start(bg, create("f", profile)); return err }
	}
	suspend := func(w *world) error { _, err := w.Suspend(bg, message("f"), ""); return err }
	resume := func(w *world) error { _, err := w.Resume(bg, message("f"), nil); return err }
	terminate := func(w *world) error { _, err := w.Terminate(bg, message("f"), ""); return err }
	completed := func(w *world) error { _, err := w.Completed(bg, message("f")); return err }
	abort := func(w *world) error { return w.Abort(bg, key("f"), "") }
	finished := func(w *world) error {
		w.transfer("f").end <- nil
		w.eventually("the end", func() bool { return w.flow("f").State == flow.Completed && !w.flow("f").Leftover })
		return nil
	}
	for _, direction := range []string{"pull", "push"} {
		for _, tc := range []struct {
			name  string
			steps []func(*world) error
			want  string
			only  string // direction
		}{
			{"start", nil, "open", ""},
			{"suspend", []func(*world) error{suspend}, "SUSPENDED", ""},
			{"resume", []func(*world) error{suspend, resume}, "open", ""},
			{"terminate", []func(*world) error{terminate}, "TERMINATED", ""},
			{"terminate after suspend", []func(*world) error{suspend, terminate}, "TERMINATED", ""},
			{"completed", []func(*world) error{completed}, "COMPLETED", ""},
			{"abort", []func(*world) error{abort}, "TERMINATED", ""},
			{"everything sent", []func(*world) error{finished}, "COMPLETED", "push"},
		} {
			if tc.only != "" && tc.only != direction {
				continue
			}
			t.Run(direction+" "+tc.name, func(t *testing.T) {
				w := newWorld(t)
				for _, step := range append([]func(*world) error{start("response/" + direction)}, tc.steps...) {
					before := w.live("f")
					if err := step(w); err != nil {
						t.Fatal(err)
					}
					if got := w.open("f"); got != "open" {
						for _, a := range before {
							if w.endpoint.works(&a) {
								t.Errorf("%s, and a token still works", got)
							}
						}
					}
				}
				if got := w.open("f"); got != tc.want {
					t.Errorf("a message meets %s, want %s", got, tc.want)
				}
				if n := w.endpoint.tokens(key("f")); tc.want != "open" && n != 0 {
					t.Errorf("%d tokens are left", n)
				}
			})
		}
	}
}

// A message that comes before the flow has started finds the channel closed.
func TestResponseChannelOpensWithStarted(t *testing.T) {
	w := newWorld(t)
	w.checker.setSlow(make(chan struct{}))
	c := create("f", "response/push")
	c.DatasetID = "async"
	if s := must(t)(w.Start(bg, c)); s.State != flow.Starting {
		t.Fatal(s.State)
	}
	if got := w.open("f"); got != "STARTING" {
		t.Errorf("a message meets %s", got)
	}
	w.checker.release()
	w.eventually("it opens", func() bool { return w.open("f") == "open" })
}

// live are the addresses with tokens of a flow, none if there is no flow.
func (w *world) live(id string) (all []sdk.DataAddress) {
	f, err := w.store.Flow(bg, key(id))
	if err != nil {
		return nil
	}
	if f.Issued != nil {
		all = append(all, *f.Issued)
	}
	if f.Response != nil && f.Response.Issued != nil {
		all = append(all, *f.Response.Issued)
	}
	return all
}

func TestResponseChannelIsInTheAnswer(t *testing.T) {
	w := newWorld(t)
	pull := must(t)(w.Start(bg, create("f", "response/pull"))).DataAddress
	want := &sdk.DataAddress{Type: "pull", Endpoint: "https://here/f", Properties: map[string]string{"authorization": "token1",
		"responseChannel-endpoint": "https://here/responses/f", "responseChannel-endpointType": "back", "responseChannel-authorization": "response2"}}
	if diff := cmp.Diff(want, pull); diff != "" {
		t.Error("pull (-want +got):\n", diff)
	}
	push := must(t)(w.Start(bg, create("g", "response/push"))).DataAddress
	want = &sdk.DataAddress{Type: "back", Endpoint: "https://here/responses/g", Properties: map[string]string{
		"responseChannel-endpoint": "https://here/responses/g", "responseChannel-endpointType": "back", "responseChannel-authorization": "response3"}}
	if diff := cmp.Diff(want, push); diff != "" {
		t.Error("push (-want +got):\n", diff)
	}
	must(t)(w.Suspend(bg, message("g"), ""))
	// What EDC gives back is what it was given.
	again := must(t)(w.Resume(bg, message("g"), push)).DataAddress
	if again == nil || again.Properties["responseChannel-authorization"] != "response4" {
		t.Errorf("resume answered %v", again)
	}
	if f := w.flow("g"); f.Remote == nil || f.Remote.Endpoint != "https://there/in" {
		t.Errorf("the consumer's address is now %+v", f.Remote)
	}
	w.transfer("g")
	async := create("h", "response/push")
	async.DatasetID = "async"
	if s := must(t)(w.Start(bg, async)); s.State != flow.Starting || s.DataAddress != nil {
		t.Errorf("start answered %+v", s)
	}
	w.eventually("started", func() bool { return w.flow("h").State == flow.Started })
	all, err := w.store.Callbacks(bg, key("h"))
	if err != nil || len(all) != 1 || all[0].DataAddress == nil || all[0].DataAddress.Properties["responseChannel-endpoint"] == "" {
		t.Errorf("callbacks %+v, %v", all, err)
	}
}

func TestResponseSinkIsRequiredAndChecked(t *testing.T) {
	w := newWorld(t)
	for dataset, want := range map[string]string{
		"answerless":     `datasetId: dataset "answerless" has no response sink, which the profile requires`,
		"badly answered": `datasetId: response sink of dataset "badly answered": `,
	} {
		c := create("f", "response/pull")
		c.DatasetID = dataset
		_, err := w.Start(bg, c)
		var refused *flow.RequestError
		if !errors.As(err, &refused) || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("%s: %v, want %s", dataset, err, want)
		}
	}
	if n := w.endpoint.tokens(key("f")); n != 0 {
		t.Errorf("%d tokens of flows that there are not", n)
	}
	inMessage := create("f", "response/pull")
	inMessage.DatasetID, inMessage.Response = "answerless", &sdk.DataAddress{Type: "Sent"}
	must(t)(w.Start(bg, inMessage))
	declared := create("g", "response/pull")
	declared.Response = &sdk.DataAddress{Type: "Sent"}
	must(t)(w.Start(bg, declared))
	if f, g := w.flow("f"), w.flow("g"); f.Response.Local.Type != "Sent" || g.Response.Local.Type != "Box" {
		t.Errorf("response sinks %v and %v", f.Response.Local, g.Response.Local)
	}
	must(t)(w.Start(bg, create("h", "pull")))
	if got := w.open("h"); got != "none" {
		t.Errorf("a flow without a response channel: %s", got)
	}
}

func TestResponsesAreCountedApart(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "response/pull")))
	back := w.Responses()
	j, err := back.Join(bg, key("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Leave()
	if j.Flow.Local.Type != "Box" || j.Flow.PluginContext().ID != "f/responses" {
		t.Errorf("inside: %v, %s", j.Flow.Local, j.Flow.PluginContext().ID)
	}
	j.Moved(7)
	for want := range uint64(2) {
		if n, err := back.NextIndex(bg, key("f")); n != want || err != nil {
			t.Errorf("index %d, %v; want %d", n, err, want)
		}
	}
	crc := sdk.Digests{sdk.CRC32C: {1, 2, 3, 4}}
	for _, p := range []flow.Part{{Name: "a", Size: 3, Digests: crc}, {Index: 1, Name: "b", Size: 4, Digests: crc}, {Name: "a", Size: 5, Digests: crc}} {
		if err := back.Record(bg, key("f"), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Record(bg, key("f"), flow.Part{Name: "a", Size: 100, Digests: crc}); err != nil {
		t.Fatal(err)
	}
	f := w.flow("f")
	if f.Response.Totals != (sdk.Totals{Parts: 2, Bytes: 9}) || f.Totals != (sdk.Totals{Parts: 1, Bytes: 100}) {
		t.Errorf("responses %+v, data %+v", f.Response.Totals, f.Totals)
	}
	if p, ok, err := back.Part(bg, key("f"), "a"); !ok || err != nil || p.Size != 5 {
		t.Errorf("part %+v, %v, %v", p, ok, err)
	}
	if err := back.Seal(bg, key("f"), func([]flow.Part) error { return nil }); err == nil {
		t.Error("a response channel was sealed")
	}
	m, ok := w.ResponseMovement(key("f"))
	if !ok || m.Requests != 1 || m.Rate == 0 {
		t.Errorf("movement of responses: %+v, %v", m, ok)
	}
	if m, _ := w.Movement(key("f")); m.Requests != 0 || m.Rate != 0 {
		t.Errorf("movement of the data: %+v", m)
	}
}

// A suspend returns when the messages on their way have been cut.
func TestSuspendCutsMessages(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "response/push")))
	j, err := w.Responses().Join(bg, key("f"))
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		must(t)(w.Suspend(bg, message("f"), ""))
	}()
	<-j.Context.Done()
	var state *flow.StateError
	if !errors.As(context.Cause(j.Context), &state) || state.State != flow.Suspended {
		t.Errorf("cut because of %v", context.Cause(j.Context))
	}
	select {
	case <-answered:
		t.Error("suspend was answered while a message was on its way")
	default:
	}
	j.Leave()
	<-answered
}

func TestCarrierOfTheResponseChannel(t *testing.T) {
	w := newWorld(t)
	a := must(t)(w.Start(bg, create("f", "twice/pull"))).DataAddress
	want := &sdk.DataAddress{Type: "queue", Endpoint: "amqps://here/f", Properties: map[string]string{
		"responseChannel-endpointType": "Answers", "responseChannel-endpoint": "amqps://here/f/responses"}}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Error("answer (-want +got):\n", diff)
	}
	forward, back := w.transfer("f"), w.transfer("f/responses")
	from, err := back.progress.Remote(bg, false)
	if err != nil || from.Type != "Queue" || from.Endpoint != "amqps://here/f/responses" || back.flow.Local.Type != "Box" || back.flow.Role != flow.Consumer {
		t.Errorf("the channel is carried from %v to %v, %v", from, back.flow.Local, err)
	}
	place := flow.Checkpoint{Source: []byte("there"), Sink: []byte("here")}
	if err := back.progress.Checkpoint(bg, place, sdk.Totals{Parts: 1, Bytes: 3}, []flow.Part{{Name: "a", Size: 3}}); err != nil {
		t.Fatal(err)
	}
	if err := forward.progress.Checkpoint(bg, flow.Checkpoint{}, sdk.Totals{Bytes: 9}, nil); err != nil {
		t.Fatal(err)
	}
	if f := w.flow("f"); f.Response.Totals.Bytes != 3 || f.Totals.Bytes != 9 {
		t.Errorf("totals %+v and %+v", f.Response.Totals, f.Totals)
	}
	if got := w.open("f"); got != "none" {
		t.Errorf("the public API takes messages: %s", got)
	}

	must(t)(w.Suspend(bg, message("f"), ""))
	for _, id := range []string{"f", "f/responses"} {
		if w.transfers.get(id) != nil {
			t.Errorf("suspended, and %s moves", id)
		}
	}
	must(t)(w.Resume(bg, message("f"), nil))
	w.transfer("f")
	if back = w.transfer("f/responses"); string(back.flow.Checkpoint.Source) != "there" || back.flow.Totals.Bytes != 3 {
		t.Errorf("the channel goes on from %+v", back.flow.Checkpoint)
	}

	// After a crash it is as before.
	w.restart(nil)
	w.transfer("f")
	if back = w.transfer("f/responses"); string(back.flow.Checkpoint.Source) != "there" || !back.flow.Redelivery {
		t.Errorf("after a restart the channel goes on from %+v", back.flow.Checkpoint)
	}

	w.transfer("f").end <- nil
	w.eventually("the end", func() bool { return w.flow("f").State == flow.Completed && !w.flow("f").Leftover })
	if w.transfers.get("f/responses") != nil {
		t.Error("completed, and the channel moves")
	}
	if got := w.sinks.all(); got != "Queue:f Box:f/responses Queue:f/responses" {
		t.Errorf("released: %s", got)
	}
}

// What a message sees of the flow is for that message alone.
func TestMessagesLeaveTheFlowAsItIs(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "response/pull")))
	before := w.flow("f")
	for range 2 {
		if got := w.open("f"); got != "open" {
			t.Errorf("a message meets %s", got)
		}
	}
	j, err := w.Responses().Join(bg, key("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Leave()
	if j.Of.Key != key("f") || j.Of.Role != flow.Provider || j.Of.Direction != flow.Pull {
		t.Errorf("the message is about %+v", j.Of)
	}
	if diff := cmp.Diff(before, w.flow("f")); diff != "" {
		t.Error("flow (-before +after):\n", diff)
	}
}

// A start that comes again finds the channel carried, and leaves that alone.
func TestAStartAgainLeavesTheCarrierRunning(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, unnamed("f", "carried/pull")))
	first := w.transfer("f/responses")
	again := must(t)(w.Start(bg, unnamed("f", "carried/pull")))
	if again.State != flow.Started || again.DataAddress.Get("responseChannel-endpoint") == "" {
		t.Errorf("answered %+v", again)
	}
	if w.transfers.get("f/responses") != first {
		t.Error("the channel is carried by another transfer")
	}
	must(t)(w.Suspend(bg, about("f"), ""))
	if w.transfers.get("f/responses") != nil {
		t.Error("suspended, and the channel moves")
	}
	must(t)(w.Start(bg, unnamed("f", "carried/pull")))
	if w.transfer("f/responses") == first {
		t.Error("resumed, and nothing began")
	}
}

// One that is broken does not hold up the other, and what is reported says which it is.
func TestBrokenCarrierLeavesTheDataAlone(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "carried/push")))
	forward := w.transfer("f")
	w.transfer("f/responses").end <- sdk.Errorf(sdk.Denied, "no access to the queue")
	w.eventually("fault", func() bool { return w.flow("f").Response.Fault != "" })
	if got := w.flow("f"); got.Fault != "" || got.Response.Fault != "response channel: no access to the queue" || got.State != flow.Started {
		t.Errorf("%s, fault %q, response %q", got.State, got.Fault, got.Response.Fault)
	}
	all, err := w.store.Callbacks(bg, key("f"))
	if err != nil || len(all) != 1 || all[0].Error != "response channel: no access to the queue" {
		t.Errorf("callbacks %+v, %v", all, err)
	}
	if err := w.Retry(bg, key("f")); err != nil {
		t.Fatal(err)
	}
	back := w.transfer("f/responses")
	if w.transfers.get("f") != forward {
		t.Error("a retry of the channel has touched the data")
	}
	forward.end <- sdk.Errorf(sdk.Denied, "the receiver says no")
	w.eventually("fault", func() bool { return w.flow("f").Fault == "the receiver says no" })
	if w.transfers.get("f/responses") != back || w.flow("f").Response.Fault != "" {
		t.Error("a failure of the data has touched the channel")
	}
	back.end <- nil
	w.eventually("the end of the carrier", func() bool { return w.flow("f").Response.Fault != "" })
	if got := w.flow("f").Response.Fault; got != "response channel: what carries it has ended" {
		t.Errorf("fault %q", got)
	}
	must(t)(w.Terminate(bg, message("f"), ""))
	w.eventually("release", func() bool { return !w.flow("f").Leftover })
}

// A push that has sent everything stays STARTED for as long as the channel is to stay open.
func TestLinger(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Start(bg, create("f", "lingering/push")))
		synctest.Wait()
		w.transfers.get("f").end <- nil
		time.Sleep(59 * time.Second)
		if w.flow("f").State != flow.Started || w.open("f") != "open" || w.Waiting(key("f")) == "" {
			t.Errorf("%s, %s, waiting %q", w.flow("f").State, w.open("f"), w.Waiting(key("f")))
		}
		time.Sleep(2 * time.Second)
		if w.flow("f").State != flow.Completed || w.open("f") != "COMPLETED" {
			t.Errorf("%s, %s", w.flow("f").State, w.open("f"))
		}
		must(t)(w.Start(bg, create("g", "lingering/push")))
		synctest.Wait()
		w.transfers.get("g").end <- nil
		time.Sleep(time.Second)
		must(t)(w.Suspend(bg, message("g"), ""))
		time.Sleep(time.Hour)
		w.wantState("g", flow.Suspended)
	})
}

// The consumer keeps what it was told of the channel, and hands it to local applications; it is no place where data is.
func TestConsumerKeepsTheResponseChannel(t *testing.T) {
	channel := func(n int) *sdk.DataAddress {
		return &sdk.DataAddress{Type: "HttpData", Endpoint: "https://there/responses/f", Properties: map[string]string{
			"responseChannel-endpoint": "https://there/responses/f", "responseChannel-endpointType": "HttpData",
			"responseChannel-authorization": fmt.Sprint("theirs", n)}}
	}
	w := newWorld(t)
	for _, profile := range []string{"push", "strict/push"} {
		id := profile[:4]
		c := create(id, profile)
		c.DataAddress = nil
		must(t)(w.Prepare(bg, c))
		if _, err := w.Address(bg, key(id)); err == nil {
			t.Errorf("%s: an address before started", profile)
		}
		must(t)(w.Started(bg, message(id), channel(1)))
		f := w.flow(id)
		if f.Remote != nil || f.Moves() || !f.Serves() {
			t.Errorf("%s: taken for where the data is: %+v", profile, f.Remote)
		}
		j, err := w.Join(bg, key(id))
		if err != nil {
			t.Fatal(err)
		}
		j.Leave()
		got, err := w.Address(bg, key(id))
		if diff := cmp.Diff(*channel(1), got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", profile, err, diff)
		}
		must(t)(w.Suspend(bg, message(id), ""))
		if _, err := w.Address(bg, key(id)); err == nil {
			t.Errorf("%s: an address while suspended", profile)
		}
		must(t)(w.Resume(bg, message(id), channel(2)))
		if got, err := w.Address(bg, key(id)); err != nil || got.Properties["responseChannel-authorization"] != "theirs2" {
			t.Errorf("%s after resume: %v, %v", profile, got, err)
		}
		w.restart(nil)
		if _, err := w.Address(bg, key(id)); err != nil {
			t.Errorf("%s after a restart: %v", profile, err)
		}
	}

	insecure := create("insecure", "push")
	insecure.DataAddress = nil
	must(t)(w.Prepare(bg, insecure))
	plain := channel(1)
	plain.Endpoint, plain.Properties["responseChannel-endpoint"] = "http://there", "http://there"
	if _, err := w.Started(bg, message("insecure"), plain); !errors.As(err, new(*flow.RequestError)) {
		t.Errorf("a channel over plain HTTP: %v", err)
	}

	must(t)(w.Prepare(bg, create("insecure pull", "pull")))
	plain.Endpoint = "https://there/data"
	if _, err := w.Started(bg, message("insecure pull"), plain); !errors.As(err, new(*flow.RequestError)) {
		t.Errorf("a channel over plain HTTP beside data over HTTPS: %v", err)
	}

	both := channel(1)
	both.Endpoint, both.Properties["authorization"] = "https://there/data", "data"
	must(t)(w.Prepare(bg, create("pull", "pull")))
	must(t)(w.Started(bg, message("pull"), both))
	from, err := w.transfer("pull").progress.Remote(bg, false)
	if diff := cmp.Diff(map[string]string{"authorization": "data"}, from.Properties); diff != "" || err != nil {
		t.Errorf("what the plugin is given: %v (-want +got):\n%s", err, diff)
	}
	if got, err := w.Address(bg, key("pull")); err != nil || !cmp.Equal(got, *both) {
		t.Errorf("address %v, %v", got, err)
	}
}

// A resume that fails leaves no token behind, and the next one opens the channel again.
func TestResumeThatFailsOpensNothing(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, create("f", "response/push")))
	must(t)(w.Suspend(bg, message("f"), ""))
	w.endpoint.breakWith(sdk.Retryf(sdk.Unavailable, "busy"))
	if _, err := w.Resume(bg, message("f"), nil); err == nil {
		t.Fatal("resumed without a token")
	}
	w.endpoint.breakWith(nil)
	if got, n := w.open("f"), w.endpoint.tokens(key("f")); got != "SUSPENDED" || n != 0 {
		t.Errorf("%s, %d tokens", got, n)
	}
	must(t)(w.Resume(bg, message("f"), nil))
	if got := w.open("f"); got != "open" {
		t.Errorf("after the resume: %s", got)
	}
}

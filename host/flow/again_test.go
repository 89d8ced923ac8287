package flow_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// unnamed is a message of a protocol whose messages have no ids, and which starts a flow again by the message that created it.
func unnamed(id, profile string) flow.Create {
	c := create(id, profile)
	c.MessageID, c.Body, c.Again = "", nil, true
	return c
}

func about(id string) flow.Message { return flow.Message{Key: key(id), ControlPlane: "cp"} }

func TestEveryStartOfAPullHasANewToken(t *testing.T) {
	w := newWorld(t)
	former := must(t)(w.Start(bg, unnamed("f", "pull")))
	for range 3 {
		s := must(t)(w.Start(bg, unnamed("f", "pull")))
		if s.State != flow.Started || w.endpoint.works(former.DataAddress) || !w.endpoint.works(s.DataAddress) {
			t.Errorf("a start again answered %+v", s)
		}
		former = s
	}
	must(t)(w.Suspend(bg, about("f"), "lunch"))
	if w.endpoint.works(former.DataAddress) {
		t.Error("a token works while the flow is SUSPENDED")
	}
	s := must(t)(w.Start(bg, unnamed("f", "pull")))
	if f := w.flow("f"); s.State != flow.Started || !f.Resumed || f.Reason != "" || !w.endpoint.works(s.DataAddress) {
		t.Errorf("a start of a SUSPENDED flow answered %+v, and it is %+v", s, f)
	}
	s = must(t)(w.Again(bg, about("f"), nil))
	must(t)(w.Terminate(bg, about("f"), ""))
	if w.endpoint.works(s.DataAddress) {
		t.Error("a token works after terminate")
	}
	_, err := w.Start(bg, unnamed("f", "pull"))
	wantRefused(t, err)
	_, err = w.Again(bg, about("f"), nil)
	wantRefused(t, err)
}

func TestAStartAgainLetsAPushGoOn(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, unnamed("f", "push")))
	tr := w.transfer("f")
	c := unnamed("f", "push")
	c.Callback = "https://elsewhere"
	if s := must(t)(w.Start(bg, c)); s.State != flow.Started || s.DataAddress != nil {
		t.Errorf("a start again answered %+v", s)
	}
	if w.transfers.get("f") != tr || w.flow("f").Callback != "https://elsewhere" {
		t.Error("another transfer runs, or the callback's place is the old one")
	}
	must(t)(w.Suspend(bg, about("f"), ""))
	c.DataAddress = &sdk.DataAddress{Type: "push", Endpoint: "https://there/other"}
	must(t)(w.Start(bg, c))
	if tr := w.transfer("f"); tr.flow.Remote.Endpoint != "https://there/other" || !tr.flow.Redelivery {
		t.Errorf("resumed towards %+v", tr.flow.Remote)
	}
	w.transfer("f").end <- sdk.Errorf(sdk.Denied, "the receiver says no")
	w.eventually("fault", func() bool { return w.flow("f").Fault != "" })
	must(t)(w.Start(bg, c))
	if f := w.flow("f"); f.Fault != "" {
		t.Errorf("after a start again, the flow that rested has the fault %q", f.Fault)
	}
	w.transfer("f").end <- nil
	w.eventually("completed", func() bool { return w.flow("f").State == flow.Completed })
	_, err := w.Start(bg, c)
	wantRefused(t, err)
}

func TestAPrepareAgainIsAnsweredAsBefore(t *testing.T) {
	w := newWorld(t)
	s := must(t)(w.Prepare(bg, unnamed("f", "push")))
	c := unnamed("f", "push")
	c.Metadata = []byte(`{"other":"metadata"}`)
	if diff := cmp.Diff(s, must(t)(w.Prepare(bg, c))); diff != "" || !w.endpoint.works(s.DataAddress) {
		t.Errorf("(-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(s, must(t)(w.Again(bg, about("f"), nil))); diff != "" {
		t.Errorf("(-first +again):\n%s", diff)
	}
}

func TestAStartAgainWhileItIsUnderWay(t *testing.T) {
	w := newWorld(t)
	w.checker.setSlow(make(chan struct{}))
	defer w.checker.release()
	for range 2 {
		if s := must(t)(w.Start(bg, unnamed("f", "async/pull"))); s.State != flow.Starting || s.DataAddress != nil {
			t.Errorf("start answered %+v", s)
		}
	}
}

func TestAStartAgainIsForTheSameFlow(t *testing.T) {
	w := newWorld(t)
	must(t)(w.Start(bg, unnamed("f", "pull")))
	for name, change := range map[string]func(*flow.Create){
		"profile":     func(c *flow.Create) { c.Profile = "push" },
		"datasetId":   func(c *flow.Create) { c.DatasetID = "other" },
		"agreementId": func(c *flow.Create) { c.AgreementID = "other" },
		"dataFlowId":  func(c *flow.Create) { c.ControlPlane = "other" },
	} {
		c := unnamed("f", "pull")
		change(&c)
		_, err := w.Start(bg, c)
		var wrong *flow.RequestError
		if !errors.As(err, &wrong) || wrong.Field != name {
			t.Errorf("another %s: %v", name, err)
		}
	}
	m := about("f")
	m.ControlPlane = "other"
	if _, err := w.Again(bg, m, nil); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("another control plane starts it again: %v", err)
	}
	if _, err := w.Again(bg, about("none"), nil); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("a flow that is not there is started again: %v", err)
	}
}

func TestAStartAgainThatIsNotStoredLeavesNoToken(t *testing.T) {
	w := newWorld(t)
	s := must(t)(w.Start(bg, unnamed("f", "pull")))
	w.endpoint.breakWith(errors.New("no token"))
	if _, err := w.Start(bg, unnamed("f", "pull")); err == nil {
		t.Error("a start without a token succeeds")
	}
	w.endpoint.breakWith(nil)
	if !w.endpoint.works(s.DataAddress) {
		t.Error("a start that failed has ended the token")
	}
}

func TestTheSourceThatAMessageHas(t *testing.T) {
	w := newWorld(t)
	source := &sdk.DataAddress{Type: "There", Properties: map[string]string{"path": "a"}}
	tests := []struct {
		dataset string
		source  *sdk.DataAddress
		want    string // the type, "" for a refusal
	}{
		{"data", source, "Here"},
		{"sourceless", source, "There"},
		{"unknown", source, "There"},
		{"unknown", nil, ""},
		{"sourceless", nil, ""},
	}
	for i, tt := range tests {
		id := string(rune('a' + i))
		c := unnamed(id, "pull")
		c.DatasetID, c.Source, c.Callback = tt.dataset, tt.source, "https://cp/callbacks"
		_, err := w.Start(bg, c)
		switch {
		case tt.want == "" && !errors.As(err, new(*flow.RequestError)):
			t.Errorf("%s: %v, want a refusal", tt.dataset, err)
		case tt.want != "" && err != nil:
			t.Errorf("%s: %v", tt.dataset, err)
		case tt.want != "" && (w.flow(id).Local.Type != tt.want || w.flow(id).Callback != c.Callback):
			t.Errorf("%s: %+v", tt.dataset, w.flow(id))
		}
	}
}

func TestAMessageCanSettleWhenItIsAnswered(t *testing.T) {
	w := newWorld(t)
	c := unnamed("f", "async/pull")
	c.Mode = flow.ModeSync
	if s := must(t)(w.Start(bg, c)); s.State != flow.Started || s.DataAddress == nil {
		t.Errorf("start answered %+v", s)
	}
}

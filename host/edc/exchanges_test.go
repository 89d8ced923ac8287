package edc

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/piprate/json-gold/ld"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// exchange is a request and its answer, with what both mean. The same files are read by a test with another JSON-LD processor, in
// e2e/python.
type exchange struct {
	Name           string
	Method         string
	Path           string // below the base
	Request        json.RawMessage
	Expanded       any
	Status         int
	Answer         any
	AnswerExpanded any
}

// The exchanges of a dialect are held one after the other with one data plane.
func TestExchanges(t *testing.T) {
	for _, dialect := range []string{"a", "b", "c", "d"} {
		t.Run(dialect, func(t *testing.T) {
			w := newWorld(t, nil)
			for _, x := range exchangesOf(t, "dialect-"+dialect) {
				x.hold(t, w)
			}
		})
	}
}

// The same message in other forms of JSON-LD starts the same flow.
func TestForms(t *testing.T) {
	for _, x := range exchangesOf(t, "forms") {
		t.Run(x.Name, func(t *testing.T) {
			w := newWorld(t, nil)
			x.hold(t, w)
			flows, err := w.store.Flows(t.Context(), flow.Filter{})
			if err != nil || len(flows) != 1 {
				t.Fatalf("there are %d flows: %v", len(flows), err)
			}
			f := flows[0]
			if f.Local.Type != httpData || f.Local.Get("baseUrl") != "http://src/data" || f.Local.Properties["header:Accept"] != "text/csv" {
				t.Errorf("the source is %+v", f.Local.Properties)
			}
			if f.Profile != "HttpData-PULL" || f.AgreementID == "" || f.CounterPartyID == "" || f.ParticipantID != "did:web:us" {
				t.Errorf("the flow is %+v", f)
			}
		})
	}
}

func exchangesOf(t testing.TB, name string) []exchange {
	t.Helper()
	var all struct{ Exchanges []exchange }
	content, err := os.ReadFile("testdata/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(content, &all)
	}
	if err != nil || len(all.Exchanges) == 0 {
		t.Fatalf("no exchanges: %v", err)
	}
	return all.Exchanges
}

func (x exchange) hold(t *testing.T, w *world) {
	t.Helper()
	if x.Request != nil {
		doc, err := parse(x.Request)
		if err != nil {
			t.Fatal(err)
		}
		if list, ok := doc.([]any); ok {
			doc = list[0]
		}
		expanded, err := process(doc)
		if diff := cmp.Diff(x.Expanded, plain(t, expanded)); diff != "" || err != nil {
			t.Errorf("%s: %v, the request is (-want +got):\n%s", x.Name, err, diff)
		}
	}
	a := w.send(x.Method, x.Path, string(x.Request))
	if a.Code != x.Status {
		t.Errorf("%s: status %d, want %d: %s", x.Name, a.Code, x.Status, a.Body)
	}
	if a.Code == http.StatusNoContent {
		if a.Body.Len() > 0 {
			t.Errorf("%s: the answer has a body", x.Name)
		}
		return
	}
	var answer any
	if err := json.Unmarshal(a.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(x.Answer, answer); diff != "" && x.Answer != nil {
		t.Errorf("%s: the answer (-want +got):\n%s", x.Name, diff)
	}
	if x.AnswerExpanded == nil {
		return
	}
	o := ld.NewJsonLdOptions("") // by itself: the answer's context is all there is
	o.DocumentLoader = library{}
	expanded, err := ld.NewJsonLdProcessor().Expand(answer, o)
	if diff := cmp.Diff(x.AnswerExpanded, plain(t, expanded)); diff != "" || err != nil {
		t.Errorf("%s: %v, the answer means (-want +got):\n%s", x.Name, err, diff)
	}
}

// plain returns a value as encoding/json reads it.
func plain(t *testing.T, v any) (out any) {
	t.Helper()
	content, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(content, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

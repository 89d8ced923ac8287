package publicapi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// plane is a data plane of which only what moves by itself is missing: the real engine behind the real public API.
type plane struct {
	*world
	engine *flow.Engine
}

// late is a flow service that is there after the Handler: in this test the server's address is needed before the engine.
type late struct{ flow.Service }

func newPlane(t *testing.T, reading sdktest.Hook) *plane {
	t.Helper()
	service := &late{}
	w := newWorld(t, func(w *world, o *Options) {
		o.Flows, o.Digests = service, []sdk.Algorithm{sdk.SHA256}
		o.Renewal = RenewalOptions{Tokens: w.tokens, Keys: w.wallet.Keys, Clock: w.clock.Now}
		w.memory.Reading = reading
	})
	p := &plane{world: w}
	p.engine = flow.New(flow.Options{
		Store: storetest.NewMemory(), Catalog: p, Checker: p, Endpoint: w.endpoint, Sinks: p,
		Transfer: func(ctx context.Context, _ *flow.Flow, _ flow.Progress) error {
			<-ctx.Done()
			return context.Cause(ctx)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	service.Service = p.engine
	t.Cleanup(func() {
		if err := p.engine.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *plane) Profile(name string) (flow.Profile, bool) {
	return flow.Profile{Name: name, Direction: flow.Direction(strings.TrimPrefix(name, "http-")), AllowHTTP: true}, true
}

func (p *plane) Dataset(_, id string) (flow.Dataset, bool) {
	return flow.Dataset{ID: id, Source: p.memory.Address(""), Sink: p.memory.Address("in")}, true
}

func (p *plane) CheckSource(context.Context, sdk.DataAddress) error { return nil }
func (p *plane) CheckSink(context.Context, sdk.DataAddress) error   { return nil }
func (p *plane) Sink(typ string) (sdk.DataSink, error)              { return p.findSink(typ) }

func create(id, profile string) flow.Create {
	return flow.Create{Message: flow.Message{Key: key(id), ControlPlane: "cp"}, Profile: profile, DatasetID: "d",
		AgreementID: "agreement", ParticipantID: "did:web:us", CounterPartyID: "did:web:them"}
}

func message(id string) flow.Message { return flow.Message{Key: key(id), ControlPlane: "cp"} }

func TestPullStory(t *testing.T) {
	gate := sdktest.NewGate(256 << 10)
	p := newPlane(t, gate.Hook)
	ctx := t.Context()
	p.memory.Put("d", noise(8<<20, 1))
	started, err := p.engine.Start(ctx, create("f", "http-pull"))
	if err != nil {
		t.Fatal(err)
	}
	a := *started.DataAddress
	// A read that is in its middle is cut by the suspend, which waits for it.
	res, err := p.send(a, a.Endpoint, request{})
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 128<<10)
	if _, err := io.ReadFull(res.Body, first); err != nil {
		t.Fatal(err)
	}
	<-gate.Reached()
	if _, err := p.engine.Suspend(ctx, message("f"), "maintenance"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(res.Body)
	if err == nil {
		t.Error("the client took half for whole")
	}
	res.Body.Close()
	p.get(a, nil).wantStatus(t, http.StatusForbidden)

	gate.Open()

	// The client goes on where it was, with the token of the new address.
	resumed, err := p.engine.Resume(ctx, message("f"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := *resumed.DataAddress
	p.get(a, nil).wantStatus(t, http.StatusForbidden)
	have := append(first, rest...)
	more := p.get(b, h("Range", "bytes="+strconv.Itoa(len(have))+"-", "If-Range", res.Header.Get("Etag")))
	more.wantStatus(t, http.StatusPartialContent)
	if string(have)+string(more.body) != string(noise(8<<20, 1)) {
		t.Error("the pieces are not the part")
	}
	p.get(b, nil).wantBody(t, http.StatusOK, string(noise(8<<20, 1)))
	if _, err := p.engine.Completed(ctx, message("f")); err != nil {
		t.Fatal(err)
	}
	p.get(b, nil).wantStatus(t, http.StatusForbidden)
}

func TestPushStory(t *testing.T) {
	p := newPlane(t, nil)
	ctx := t.Context()
	prepared, err := p.engine.Prepare(ctx, create("f", "http-push"))
	if err != nil {
		t.Fatal(err)
	}
	a := *prepared.DataAddress
	if a.Get("digests") != "crc32c,sha256" {
		t.Errorf("digests %q", a.Get("digests"))
	}
	p.put(a, "a/1", "one", nil).wantPart(t, http.StatusCreated, "a/1", "one")
	if _, err := p.engine.Started(ctx, message("f"), nil); err != nil {
		t.Fatal(err)
	}
	p.put(a, "b", "two", nil).wantPart(t, http.StatusCreated, "b", "two")
	p.put(a, "b", "two", nil).wantPart(t, http.StatusOK, "b", "two")
	sum := digestsOf("one", sdk.SHA256).Hex(sdk.SHA256)
	p.manifest(a, `{"parts":[{"name":"b","size":3}]}`).wantStatus(t, http.StatusConflict)
	good := `{"parts":[{"name":"b","size":3},{"name":"a/1","size":3,"digests":{"sha256":"` + sum + `"}}],"bytes":6}`
	for range 2 {
		p.manifest(a, good).wantBody(t, http.StatusOK, `{"bytes":6,"parts":2}`)
	}
	p.put(a, "c", "three", nil).wantStatus(t, http.StatusConflict)
	p.wantContent(map[string]string{"in/a/1": "one", "in/b": "two"})
	if _, err := p.engine.Terminate(ctx, message("f"), ""); err != nil {
		t.Fatal(err)
	}
	p.put(a, "b", "two", nil).wantStatus(t, http.StatusForbidden)
}

package flow_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// renewable is an address whose token is good for 100 seconds.
func renewable() *sdk.DataAddress {
	return &sdk.DataAddress{Type: "pull", Endpoint: "https://there", Properties: map[string]string{"authorization": "a", "refreshToken": "r"}}
}

// held starts a pull without a sink, whose address is kept for local applications.
func (w *world) held(id string, a *sdk.DataAddress) {
	w.t.Helper()
	must(w.t)(w.Prepare(bg, newCreate(id, "pull", "sinkless")))
	must(w.t)(w.Started(bg, message(id), a))
}

func (w *world) wantToken(id, want string) {
	w.t.Helper()
	if got := w.flow(id).Remote.Get("authorization"); got != want {
		w.t.Errorf("flow %s has the token %q, want %q", id, got, want)
	}
}

func TestATokenIsRenewedAheadOfItsExpiry(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.held("f", renewable())
		time.Sleep(79 * time.Second)
		w.wantToken("f", "a")
		time.Sleep(2 * time.Second)
		w.wantToken("f", "a+")
		time.Sleep(80 * time.Second)
		w.wantToken("f", "a++")

		w.close() // a restart goes on where the token's life is
		time.Sleep(40 * time.Second)
		w.Engine = w.engine()
		if err := w.Revive(bg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		w.wantToken("f", "a++")
		time.Sleep(11 * time.Second)
		w.wantToken("f", "a+++")

		must(t)(w.Suspend(bg, message("f"), ""))
		time.Sleep(time.Hour)
		w.wantToken("f", "a+++")
		must(t)(w.Resume(bg, message("f"), nil))
		synctest.Wait() // its time has come long ago
		w.wantToken("f", "a++++")
		must(t)(w.Completed(bg, message("f")))
		time.Sleep(time.Hour)
		if n := w.renewer.count(); n != 4 {
			t.Errorf("%d renewals", n)
		}
	})
}

func TestRenewalsThatFail(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.held("f", renewable())
		w.renewer.failWith(sdk.Retryf(sdk.Unavailable, "no answer"))
		time.Sleep(82 * time.Second)
		if f := w.flow("f"); f.RenewalFault != "no answer" || f.Fault != "" {
			t.Errorf("after a failure that can pass: %q, %q", f.RenewalFault, f.Fault)
		}
		w.renewer.failWith(nil)
		time.Sleep(10 * time.Second)
		w.wantToken("f", "a+")
		if f := w.flow("f"); f.RenewalFault != "" {
			t.Errorf("after a success: %q", f.RenewalFault)
		}
		w.renewer.failWith(sdk.Errorf(sdk.Denied, "revoked"))
		time.Sleep(time.Hour)
		if n := w.renewer.count(); n > 6 {
			t.Errorf("%d renewals, although one was refused for good", n)
		}
		if diff := cmp.Diff([]string{"errored STARTED pending"}, w.callbacks("f")); diff != "" {
			t.Error(diff)
		}
		// The token that is refused is not sent again, whoever asks for it, nor after a restart.
		w.close()
		w.Engine = w.engine()
		if err := w.Revive(bg); err != nil {
			t.Fatal(err)
		}
		before := w.renewer.count()
		for range 3 {
			if _, err := w.Address(bg, key("f")); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Hour)
		}
		if n := w.renewer.count() - before; n != 0 {
			t.Errorf("%d renewals with a token that was refused", n)
		}
		w.renewer.failWith(nil)
		if err := w.Retry(bg, key("f")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.wantToken("f", "a++")
		must(t)(w.Terminate(bg, message("f"), ""))
	})
}

func TestAddressForLocalApplications(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Prepare(bg, newCreate("f", "pull", "unknown")))
		_, err := w.Address(bg, key("f"))
		wantRefused(t, err)
		must(t)(w.Started(bg, message("f"), renewable()))
		a, err := w.Address(bg, key("f"))
		if err != nil || a.Get("authorization") != "a" || a.Endpoint != "https://there" {
			t.Errorf("got %v, %v", a, err)
		}

		// While renewals fail the token grows old; whoever asks for it has it renewed, all by one renewal.
		w.renewer.failWith(sdk.Retryf(sdk.Unavailable, "no answer"))
		time.Sleep(200 * time.Second)
		w.renewer.failWith(nil)
		before := w.renewer.count()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if a, err := w.Address(bg, key("f")); err != nil || a.Get("authorization") != "a+" {
					t.Errorf("got %v, %v", a, err)
				}
			})
		}
		wg.Wait()
		if n := w.renewer.count() - before; n != 1 {
			t.Errorf("%d renewals for ten who asked", n)
		}
		must(t)(w.Suspend(bg, message("f"), ""))
		_, err = w.Address(bg, key("f"))
		wantRefused(t, err)

		must(t)(w.Start(bg, create("g", "pull")))
		_, err = w.Address(bg, key("g"))
		wantRefused(t, err)
		if _, err := w.Address(bg, key("none")); !errors.Is(err, flow.ErrNotFound) {
			t.Errorf("no flow: %v", err)
		}
	})
}

func TestVisit(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.held("f", renewable())
		j, err := w.Visit(bg, key("f"))
		if err != nil {
			t.Fatal(err)
		}
		if j.Flow.Local.Type != "There" || j.Flow.Local.Get("authorization") != "a" {
			t.Errorf("reads from %+v", j.Flow.Local)
		}
		go func() { <-j.Context.Done(); j.Leave() }()
		must(t)(w.Suspend(bg, message("f"), ""))
		if j.Context.Err() == nil {
			t.Error("a visit goes on after a suspend")
		}
		_, err = w.Visit(bg, key("f"))
		wantRefused(t, err)
	})
}

// What a transfer uses is renewed when it is refused, but not if it is another one by then.
func TestATransferWhoseTokenIsRefused(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Prepare(bg, create("f", "pull")))
		must(t)(w.Started(bg, message("f"), renewable()))
		tr := w.transfer("f")
		for _, step := range []struct {
			refused bool
			want    string
		}{{false, "a"}, {true, "a+"}, {false, "a+"}} {
			a, err := tr.progress.Remote(bg, step.refused)
			if err != nil || a.Type != "There" || a.Get("authorization") != step.want {
				t.Errorf("refused %v: %v, %v; want %s", step.refused, a.Get("authorization"), err, step.want)
			}
		}
		w.renewer.failWith(sdk.Errorf(sdk.Denied, "revoked"))
		if _, err := tr.progress.Remote(bg, true); !errors.Is(err, flow.ErrNotRenewed) {
			t.Errorf("got %v", err)
		}
		must(t)(w.Terminate(bg, message("f"), ""))

		must(t)(w.Start(bg, create("g", "push"))) // its address cannot be renewed
		tr = w.transfer("g")
		if _, err := tr.progress.Remote(bg, false); err != nil {
			t.Error(err)
		}
		if _, err := tr.progress.Remote(bg, true); !errors.Is(err, flow.ErrNotRenewed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRequiredRenewal(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		must(t)(w.Prepare(bg, create("f", "renewed/pull")))
		plain := &sdk.DataAddress{Type: "pull", Endpoint: "https://there"}
		if _, err := w.Started(bg, message("f"), plain); !errors.As(err, new(*flow.RequestError)) {
			t.Errorf("started without a refresh token: %v", err)
		}
		must(t)(w.Started(bg, message("f"), renewable()))
		must(t)(w.Terminate(bg, message("f"), ""))

		// Tokens for a counterparty that could not renew them are not issued either.
		if _, err := w.Start(bg, create("g", "renewed/pull")); !errors.As(err, new(*flow.RequestError)) {
			t.Errorf("start for a counterparty without a DID: %v", err)
		}
		if len(w.endpoint.live) > 0 {
			t.Errorf("tokens that work: %v", w.endpoint.live)
		}
	})
}

// Who asks for a token and goes before it is there does not take with him what the counterparty has given.
func TestARenewalOutlivesWhoAskedForIt(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.renewer.failWith(sdk.Retryf(sdk.Unavailable, "no answer"))
		w.held("f", renewable())
		time.Sleep(200 * time.Second)
		w.renewer.failWith(nil)
		w.renewer.slow = 3 * time.Second
		before := w.renewer.count()
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		if a, err := w.Address(ctx, key("f")); err != nil || a.Get("authorization") != "a" {
			t.Errorf("got %v, %v", a, err)
		}
		time.Sleep(3 * time.Second)
		w.wantToken("f", "a+")
		if n := w.renewer.count() - before; n != 1 {
			t.Errorf("%d renewals", n)
		}
	})
}

// The refresh token that was used is worth nothing any more: the new one is stored, even if not at once.
func TestARenewedTokenIsStored(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		s := &trippingStore{Store: w.store}
		w.restart(func(o *flow.Options) { o.Store = s })
		w.held("f", renewable())
		time.Sleep(79 * time.Second)
		s.next.Store(1)
		time.Sleep(2 * time.Second)
		w.wantToken("f", "a+")
		if n := w.renewer.count(); n != 1 {
			t.Errorf("%d renewals", n)
		}
	})
}

package signaling

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// TestAnswers: which answers settle a callback, which let it wait, and what an operator reads.
func TestAnswers(t *testing.T) {
	refused := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
	saying := func(code int, body string) func(*http.Request) (*http.Response, error) {
		return func(r *http.Request) (*http.Response, error) {
			response, err := status(code)(r)
			response.Body = io.NopCloser(strings.NewReader(body))
			return response, err
		}
	}
	tests := []struct {
		name    string
		answer  func(*http.Request) (*http.Response, error)
		want    flow.CallbackStatus
		lastErr string
	}{
		{"200", status(200), flow.CallbackDelivered, ""},
		{"204", status(204), flow.CallbackDelivered, ""},
		{"refused", refused, flow.CallbackPending, "connection refused"},
		{"timeout", hang, flow.CallbackPending, "no answer within 10s"},
		{"redirect", status(302, "Location", "https://other.example/x?token=hunter2"), flow.CallbackPending,
			"answered 302 Found to https://other.example; redirects are not followed, so the control plane's endpoint has to be corrected"},
		{"304", status(304), flow.CallbackPending, "answered 304 Not Modified; redirects are not followed, so the control plane's endpoint has to be corrected"},
		{"400", saying(400, " {\"detail\":\n\"no\x1b[31m such\tstate\"}"), flow.CallbackFailed, `answered 400 Bad Request: {"detail": "no[31m such state"}`},
		{"401", status(401), flow.CallbackPending, "answered 401 Unauthorized"},
		{"403", status(403), flow.CallbackPending, "answered 403 Forbidden"},
		{"404", status(404), flow.CallbackPending, "answered 404 Not Found"},
		{"405", status(405), flow.CallbackFailed, "answered 405 Method Not Allowed"},
		{"408", status(408), flow.CallbackPending, "answered 408 Request Timeout"},
		{"409", status(409), flow.CallbackPending, "answered 409 Conflict"},
		{"409, busy", saying(409, `[{"message":"leased, {\"state\":\"COMPLETED\"}"}]`), flow.CallbackPending,
			`answered 409 Conflict: [{"message":"leased, {\"state\":\"COMPLETED\"}"}]`},
		{"409, wrong state", saying(409, edcConflict("STARTED")), flow.CallbackPending, "answered 409 Conflict: " + edcConflict("STARTED")},
		{"409, terminated", saying(409, edcConflict("TERMINATED")), flow.CallbackFailed,
			"answered 409 Conflict: " + edcConflict("TERMINATED") + "; the transfer is TERMINATED there, so this is not sent again"},
		{"409, completed", saying(409, edcConflict("COMPLETED")), flow.CallbackDelivered, ""},
		{"500, terminated", saying(500, edcConflict("TERMINATED")), flow.CallbackPending,
			"answered 500 Internal Server Error: " + edcConflict("TERMINATED")},
		{"410", status(410), flow.CallbackFailed, "answered 410 Gone"},
		{"422", status(422), flow.CallbackFailed, "answered 422 Unprocessable Entity"},
		{"425", status(425), flow.CallbackPending, "answered 425 Too Early"},
		{"429", status(429), flow.CallbackPending, "answered 429 Too Many Requests"},
		{"499", status(499), flow.CallbackFailed, "answered 499"},
		{"500", saying(500, strings.Repeat("ü", 300)), flow.CallbackPending, "answered 500 Internal Server Error: " + strings.Repeat("ü", 100) + "…"},
		{"503", status(503), flow.CallbackPending, "answered 503 Service Unavailable"},
		{"599", status(599), flow.CallbackPending, "answered 599"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t)
				o.net.answers["a.example"] = tt.answer
				o.enqueue("f", "a", completed("m"))
				o.open()
				defer o.stop()
				time.Sleep(DefaultTimeout + time.Millisecond)
				got := o.stored("f")[0]
				if got.Status != tt.want || got.LastErr != tt.lastErr || got.Attempts == 0 {
					t.Errorf("%s after %d attempts, %q", got.Status, got.Attempts, got.LastErr)
				}
			})
		})
	}
}

// edcConflict is how EDC refuses what comes in the wrong state.
func edcConflict(state string) string {
	return `[{"message":"Could not execute CompleteTransfer on TransferProcess with ID [f] because it's ` + state + `"}]`
}

// A callback that cannot be had any more because the transfer is over is given up, whatever the kind; and one with an address without
// repeating the answer.
func TestTransferThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.net.answers["a.example"] = func(r *http.Request) (*http.Response, error) {
			response, err := status(409)(r)
			response.Body = io.NopCloser(strings.NewReader(edcConflict("COMPLETED")))
			return response, err
		}
		o.enqueue("f", "a", errored("m", "x"))
		o.enqueue("g", "a", flow.Callback{Kind: flow.CallbackStarted, MessageID: "m", State: flow.Started, DataAddress: &sdk.DataAddress{Type: "x"}})
		o.open()
		defer o.stop()
		synctest.Wait()
		if f := o.stored("f")[0]; f.Status != flow.CallbackFailed || !strings.HasSuffix(f.LastErr, "; the transfer is COMPLETED there, so this is not sent again") {
			t.Errorf("%s, %q", f.Status, f.LastErr)
		}
		if g := o.stored("g")[0]; g.LastErr != "answered 409 Conflict; the transfer is COMPLETED there, so this is not sent again" {
			t.Errorf("%s, %q", g.Status, g.LastErr)
		}
	})
}

// EDC answers with 500 and nothing else what comes at the wrong time. That is not repeated for a day, unless it says something else in
// between.
func TestMuteFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		answers := 0
		o.net.answers["b.example"] = func(r *http.Request) (*http.Response, error) {
			switch answers++; answers {
			case maxFaults - 1:
				return status(503)(r)
			case 2 * (maxFaults - 1):
				return nil, errors.New("connection refused")
			}
			return status(500)(r)
		}
		o.net.answers["a.example"] = status(500)
		o.enqueue("f", "a", completed("m"))
		o.enqueue("g", "b", completed("m"))
		o.open()
		defer o.stop()
		time.Sleep(3 * time.Hour)
		f, g := o.stored("f")[0], o.stored("g")[0]
		want := "answered 500 Internal Server Error without a word, 8 times in a row; the control plane has moved on, so this is not sent again"
		if f.Status != flow.CallbackFailed || f.Attempts != maxFaults || f.LastErr != want {
			t.Errorf("%s after %d: %q", f.Status, f.Attempts, f.LastErr)
		}
		if g.Status != flow.CallbackFailed || g.Attempts != 2*(maxFaults-1)+maxFaults || g.LastErr != want {
			t.Errorf("interrupted: %s after %d: %q", g.Status, g.Attempts, g.LastErr)
		}
	})
}

// A control plane that quotes what it refuses must not bring the address into the store or the log.
func TestLastErrRepeatsNoAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		log := &syncBuffer{}
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
		o.net.answers["a.example"] = func(r *http.Request) (*http.Response, error) {
			response, err := status(400)(r)
			response.Body = io.NopCloser(strings.NewReader(o.net.arrivals()[0].body))
			return response, err
		}
		o.enqueue("f", "a", flow.Callback{Kind: flow.CallbackStarted, MessageID: "m", State: flow.Started,
			DataAddress: &sdk.DataAddress{Type: "x", Endpoint: "https://dp.example", Properties: map[string]string{"authorization": "hunter2"}}})
		o.open()
		synctest.Wait()
		o.stop()
		if got := o.stored("f")[0]; strings.Contains(got.LastErr+log.String(), "hunter2") || got.LastErr != "answered 400 Bad Request" {
			t.Errorf("last error %q, log:\n%s", got.LastErr, log)
		}
		if body := o.net.arrivals()[0].body; !strings.Contains(body, "hunter2") {
			t.Errorf("the address is missing in %s", body)
		}
	})
}

func TestBackoffAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.planes["a"] = ControlPlane{Endpoint: "https://a.example", GiveUpAfter: 2 * time.Hour}
		o.net.answers["a.example"] = status(503)
		begun := time.Now()
		o.enqueue("f", "a", completed("m1"), completed("m2"))
		o.open()
		defer o.stop()
		time.Sleep(2*time.Hour - time.Second)
		got := o.net.arrivals()
		if len(got) < 24 { // with the largest delays only
			t.Errorf("%d attempts", len(got))
		}
		for i := 1; i < len(got); i++ {
			bound := maxBackoff
			if i < 10 {
				bound = min(maxBackoff, time.Second<<(i-1))
			}
			if delay := got[i].at.Sub(got[i-1].at); delay < 0 || delay > bound {
				t.Errorf("delay %d is %v, not within %v", i, delay, bound)
			}
			if got[i].body != got[0].body {
				t.Errorf("attempt %d differs: %s", i, got[i].body)
			}
		}
		time.Sleep(2 * time.Second)
		first := o.stored("f")[0]
		attempts := o.net.arrivals()
		if first.Status != flow.CallbackFailed || attempts[first.Attempts-1].at.Sub(begun) != 2*time.Hour {
			t.Errorf("%s after %d attempts, the last %v after its creation", first.Status, first.Attempts, attempts[first.Attempts-1].at.Sub(begun))
		}
		if second := o.stored("f")[1]; second.Attempts == 0 {
			t.Error("a callback that was given up holds up the next one")
		}
	})
}

// A callback that outlived the time to give it up while nothing was running still gets one attempt.
func TestOldCallbackGetsOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.enqueue("f", "a", completed("m"))
		o.enqueue("g", "b", completed("m"))
		o.net.answers["b.example"] = status(500)
		time.Sleep(7 * 24 * time.Hour)
		o.open()
		defer o.stop()
		time.Sleep(time.Hour)
		if f, g := o.stored("f")[0], o.stored("g")[0]; f.Status != flow.CallbackDelivered || g.Status != flow.CallbackFailed || g.Attempts != 1 {
			t.Errorf("f %s, g %s after %d", f.Status, g.Status, g.Attempts)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	tests := []struct {
		value    string
		min, max time.Duration
	}{
		{"120", 2 * time.Minute, 2 * time.Minute},
		{"Sat, 01 Jan 2000 00:05:00 GMT", 5 * time.Minute, 5 * time.Minute},
		{"999999999", time.Hour, time.Hour},
		{"99999999999999999999", 0, time.Second},
		{"-5", 0, time.Second},
		{"Fri, 31 Dec 1999 00:00:00 GMT", 0, time.Second},
		{"soon", 0, time.Second},
		{"", 0, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.value, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t)
				o.net.answers["a.example"] = status(429, "Retry-After", tt.value)
				o.enqueue("f", "a", completed("m"))
				o.open()
				defer o.stop()
				begun := time.Now()
				synctest.Wait()
				if delay := o.stored("f")[0].Next.Sub(begun); delay < tt.min || delay > tt.max {
					t.Errorf("next after %v", delay)
				}
				time.Sleep(tt.max + time.Millisecond)
				if len(o.net.arrivals()) < 2 {
					t.Error("no second attempt")
				}
			})
		})
	}
}

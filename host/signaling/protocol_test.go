package signaling

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// telegraph is a Protocol with words of its own.
type telegraph struct{}

func (telegraph) Name() string { return "telegraph" }

func (telegraph) Callback(endpoint string, c flow.Callback) (string, []byte) {
	to := endpoint
	if c.To != "" {
		to = c.To
	}
	if c.Kind == flow.CallbackCompleted {
		return to + "/stop", nil
	}
	return to + "/wire", []byte(`"` + c.Error + `"`)
}

func (telegraph) Verdict(status int, age time.Duration) (arrived, final bool) {
	return status == 204, status == 404 && age > time.Hour
}

func (telegraph) Registration(endpoint, id, api string, profiles, sources []string) (string, []byte, error) {
	if len(sources) == 0 {
		return "", nil, errors.New("nothing to say")
	}
	return endpoint + "/stations", fmt.Appendf(nil, "%s %s %v %v", id, api, profiles, sources), nil
}

func (telegraph) Deregistration(endpoint, _ string) [][2]string {
	return [][2]string{{"DELETE", endpoint + "/station"}, {"PUT", endpoint + "/gone"}}
}

func (telegraph) Registered(endpoint, _ string) string { return endpoint + "/station" }

func (telegraph) Lost(status int, _ []byte) bool { return status == 404 }

func TestCallbacksInAnotherProtocol(t *testing.T) {
	tests := []struct {
		name   string
		to     string
		answer func(*http.Request) (*http.Response, error)
		url    string
		want   flow.CallbackStatus
	}{
		{"204", "", status(204), "cp/stop", flow.CallbackDelivered},
		{"its own place", "https://a.example/replica", status(204), "replica/stop", flow.CallbackDelivered},
		{"200 means nothing there", "", status(200), "cp/stop", flow.CallbackPending},
		{"400 is not final there", "", status(400), "cp/stop", flow.CallbackPending},
		{"409", "", status(409), "cp/stop", flow.CallbackPending},
		{"404", "", status(404), "cp/stop", flow.CallbackPending},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t)
				o.planes["a"] = ControlPlane{Endpoint: "https://a.example/cp", Protocol: telegraph{}}
				o.net.answers["a.example"] = tt.answer
				c := completed("m")
				c.To = tt.to
				o.enqueue("f", "a", c)
				o.open()
				defer o.stop()
				synctest.Wait()
				got := o.net.arrivals()
				if stored := o.stored("f")[0]; stored.Status != tt.want || o.net.urls()[0] != tt.url || got[0].body != "" {
					t.Errorf("%s, sent to %v: %q", stored.Status, o.net.urls(), got[0].body)
				}
				time.Sleep(2 * time.Hour)
				if stored := o.stored("f")[0]; tt.name == "404" && stored.Status != flow.CallbackFailed {
					t.Errorf("%s after two hours of 404", stored.Status)
				}
			})
		})
	}
}

// A control plane that answers 500 without a word for long gets a callback all the same: only some of Data Plane Signaling mean by that
// that they have moved on.
func TestMuteFaultsInAnotherProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.planes["a"] = ControlPlane{Endpoint: "https://a.example/cp", Protocol: telegraph{}}
		o.net.answers["a.example"] = status(500)
		o.enqueue("f", "a", completed("m"))
		o.open()
		defer o.stop()
		time.Sleep(3 * time.Hour)
		o.net.set("a.example", status(204))
		time.Sleep(2 * maxBackoff)
		if c := o.stored("f")[0]; c.Status != flow.CallbackDelivered || c.Attempts < maxFaults {
			t.Errorf("%s after %d attempts", c.Status, c.Attempts)
		}
	})
}

// station is a control plane in memory that keeps a registration, and may forget it.
type station struct {
	mu         sync.Mutex // guards what follows
	registered bool
	forgetful  bool // at once
	requests   []string
	puts       bool // has PUT in place of DELETE
}

func (s *station) answer(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	switch {
	case r.Method == http.MethodPost:
		s.registered = !s.forgetful
	case r.Method == http.MethodGet && !s.registered:
		return status(404)(r)
	case r.Method == http.MethodDelete && s.puts:
		return status(405)(r)
	case r.Method == http.MethodDelete || r.Method == http.MethodPut:
		s.registered = false
	}
	return status(200)(r)
}

func (s *station) forget() { s.mu.Lock(); defer s.mu.Unlock(); s.registered = false }

func (s *station) count(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if r == request {
			n++
		}
	}
	return n
}

// postOffice registers at a station by telegraph.
type postOffice struct {
	*Registrar
	net     *controlPlanes
	station station
	stop    func()
	mu      sync.Mutex // guards sources
	sources []string
	changed chan struct{}
}

func openPostOffice(t *testing.T, puts bool) *postOffice {
	p := &postOffice{sources: []string{"B", "A", "A"}, changed: make(chan struct{}, 1)}
	p.station.puts = puts
	p.net = &controlPlanes{answers: map[string]func(*http.Request) (*http.Response, error){"a.example": p.station.answer}}
	directory := newDirectory(t, DirectoryOptions{DataPlane: "dp", HTTP: &http.Client{Transport: p.net}, ControlPlanes: []ControlPlane{{
		ID: "a", Endpoint: "https://a.example/cp", Protocol: telegraph{}, Registration: &Registration{DataPlaneEndpoint: "https://dp.example"}}}})
	var err error
	p.Registrar, err = NewRegistrar(t.Context(), RegistrarOptions{DataPlane: "dp", ControlPlanes: directory, Changed: p.changed, Documents: newShelf(),
		Carried: func(string) (profiles, sources []string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return []string{"y", "x"}, slices.Clone(p.sources)
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	p.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return p
}

func (p *postOffice) reads(sources ...string) {
	p.mu.Lock()
	p.sources = sources
	p.mu.Unlock()
	p.changed <- struct{}{}
	synctest.Wait()
}

func TestRegistersInAnotherProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := openPostOffice(t, false)
		defer p.stop()
		begun := time.Now()
		synctest.Wait()
		want := RegistrationStatus{ControlPlane: "a", Endpoint: "https://a.example/cp", Since: begun, Profiles: []string{"x", "y"}, Sources: []string{"A", "B"}}
		if diff := cmp.Diff([]RegistrationStatus{want}, p.Status()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if got := p.net.arrivals()[0]; got.url != "https://a.example/cp/stations" || got.body != "dp https://dp.example [x y] [A B]" {
			t.Errorf("%+v", got)
		}
		p.reads("A")
		if got := p.net.arrivals(); len(got) != 2 || !strings.HasSuffix(got[1].body, "[x y] [A]") {
			t.Errorf("after a plugin has gone: %+v", got)
		}
		p.reads()
		if s := p.Status()[0]; s.State() != "failed" || s.LastErr != "nothing to say" {
			t.Errorf("with nothing to register: %+v", s)
		}
		p.reads("C")
		time.Sleep(10 * time.Second)
		if s := p.Status()[0]; s.State() != "registered" || s.Sources[0] != "C" {
			t.Errorf("%+v", s)
		}
	})
}

// A control plane that has lost the registration gets it again, and one that has it is only asked.
func TestLostRegistrationIsMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := openPostOffice(t, false)
		defer p.stop()
		const post, get = "POST /cp/stations", "GET /cp/station"
		time.Sleep(10*reviewInterval + time.Second)
		if p.station.count(post) != 1 || p.station.count(get) != 10 {
			t.Errorf("%d registrations, %d questions in ten minutes", p.station.count(post), p.station.count(get))
		}
		p.station.forget()
		time.Sleep(reviewInterval)
		if p.station.count(post) != 2 || p.Status()[0].State() != "registered" {
			t.Errorf("lost: %d registrations, %+v", p.station.count(post), p.Status()[0])
		}
		p.net.set("a.example", status(503)) // says nothing about registrations
		time.Sleep(3 * reviewInterval)
		if s := p.Status()[0]; s.State() != "registered" {
			t.Errorf("while it is down: %+v", s)
		}
		p.station.forgetful = true
		p.station.forget()
		p.net.set("a.example", p.station.answer)
		time.Sleep(24 * time.Hour)
		if n := p.station.count(post); n < 24 || n > 36 {
			t.Errorf("%d registrations in a day at a control plane that never knows of any", n)
		}
	})
}

// An operator's word stands: what was taken back is not made anew by a review.
func TestWithdrawnRegistrationIsNotReviewed(t *testing.T) {
	for _, puts := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := openPostOffice(t, puts)
			defer p.stop()
			synctest.Wait()
			if err := p.Deregister(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			if p.station.registered || p.station.count("POST /cp/stations") != 1 || p.Status()[0].State() != "deregistered" {
				t.Errorf("%+v, %v", p.Status()[0], p.station.requests)
			}
			if n := p.station.count("PUT /cp/gone"); (n == 1) != puts {
				t.Errorf("%d times by PUT", n)
			}
			if err := p.Register(t.Context(), "a"); err != nil || !p.station.registered {
				t.Errorf("then registered %v: %v", p.station.registered, err)
			}
		})
	}
}

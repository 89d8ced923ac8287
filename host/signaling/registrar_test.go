package signaling

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// desk is a registrar in a synctest bubble, at the control planes a and b.
type desk struct {
	*Registrar
	t       *testing.T
	net     *controlPlanes
	planes  map[string]ControlPlane
	shelf   *shelf
	log     *syncBuffer
	metrics *prometheus.Registry
	changed chan struct{}
	stop    func()

	mu       sync.Mutex // guards profiles
	profiles []string
}

func newDesk(t *testing.T) *desk {
	registration := func() *Registration { return &Registration{DataPlaneEndpoint: "https://dp.example/api/dataflows"} }
	return &desk{t: t, net: &controlPlanes{answers: map[string]func(*http.Request) (*http.Response, error){}}, log: &syncBuffer{},
		shelf: newShelf(), metrics: prometheus.NewPedanticRegistry(), changed: make(chan struct{}, 1), profiles: []string{"x-push", "x-pull"},
		planes: map[string]ControlPlane{
			"a": {Endpoint: "https://a.example/cp/", Registration: registration()},
			"b": {Endpoint: "https://b.example", Registration: registration()},
			"c": {Endpoint: "https://c.example"},
		}}
}

func (d *desk) open() {
	d.t.Helper()
	options := DirectoryOptions{DataPlane: "dp/1", HTTP: &http.Client{Transport: d.net}}
	for id, cp := range d.planes {
		cp.ID, cp.Inbound = id, Inbound{Type: AuthStatic, Secret: "secret of " + id}
		options.ControlPlanes = append(options.ControlPlanes, cp)
	}
	directory := newDirectory(d.t, options)
	var err error
	d.Registrar, err = NewRegistrar(d.t.Context(), RegistrarOptions{DataPlane: "dp/1", ControlPlanes: directory, Changed: d.changed,
		Documents: d.shelf, Logger: slog.New(slog.NewTextHandler(d.log, nil)), Registerer: d.metrics, Profiles: func(string) []string {
			d.mu.Lock()
			defer d.mu.Unlock()
			return slices.Clone(d.profiles)
		}})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	d.stop = func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Error(err)
		}
	}
}

// offer changes the profiles.
func (d *desk) offer(profiles ...string) {
	d.mu.Lock()
	d.profiles = profiles
	d.mu.Unlock()
	d.changed <- struct{}{}
}

// at returns what arrived at a host: method and path.
func (d *desk) at(host string) []string {
	var got []string
	for _, a := range d.net.arrivals() {
		if rest, ok := strings.CutPrefix(a.url, "https://"+host); ok {
			method := "PUT "
			if a.body == "" {
				method = "DELETE "
			}
			got = append(got, method+rest)
		}
	}
	return got
}

func (d *desk) of(id string) RegistrationStatus {
	for _, s := range d.Status() {
		if s.ControlPlane == id {
			return s
		}
	}
	d.t.Fatalf("no status of %s", id)
	return RegistrationStatus{}
}

const aRegistration = `{"dataplaneId":"dp/1","endpoint":"https://dp.example/api/dataflows","profiles":["x-pull","x-push"],` +
	`"transferTypes":["x-pull","x-push"],"labels":[]}`

func TestRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.net.set("b.example", status(204))
		d.open()
		begun := time.Now()
		time.Sleep(24 * time.Hour)
		d.stop()
		want := map[string]string{"https://a.example/cp/dataplanes": aRegistration, "https://b.example/dataplanes": aRegistration}
		got := map[string]string{}
		for _, a := range d.net.arrivals() {
			got[a.url] += a.body
			conforms(t, "DataPlaneRegistrationMessage", []byte(a.body))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		status := []RegistrationStatus{
			{ControlPlane: "a", Endpoint: "https://a.example/cp/", Since: begun, Profiles: []string{"x-pull", "x-push"}},
			{ControlPlane: "b", Endpoint: "https://b.example", Since: begun, Profiles: []string{"x-pull", "x-push"}},
		}
		if diff := cmp.Diff(status, d.Status()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestRegistrationIsTriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.net.answers["a.example"] = func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }
		d.open()
		defer d.stop()
		synctest.Wait()
		if s := d.of("a"); s.State() != "failed" || s.Attempts != 1 || !s.Since.IsZero() || s.LastErr != "connection refused" || !s.Next.After(time.Now()) {
			t.Errorf("%+v", s)
		}
		if s := d.of("b"); s.State() != "registered" {
			t.Errorf("the other one waits: %+v", s)
		}
		time.Sleep(72 * time.Hour)
		var last time.Time
		var attempts int
		for _, a := range d.net.arrivals() {
			if strings.HasPrefix(a.url, "https://a.example") {
				if attempts++; attempts > 1 && a.at.Sub(last) > maxBackoff {
					t.Errorf("attempt %d after %v", attempts, a.at.Sub(last))
				}
				last = a.at
			}
		}
		if attempts < 800 || attempts > 4000 {
			t.Errorf("%d attempts in three days", attempts)
		}
		d.net.set("a.example", nil)
		time.Sleep(maxBackoff)
		if s := d.of("a"); s.Since.IsZero() || s.LastErr != "" || !s.Next.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// TestRegistrationAnswers: what an operator reads.
func TestRegistrationAnswers(t *testing.T) {
	for code, want := range map[int]string{
		200: "", 201: "", 204: "",
		400: "answered 400 Bad Request: no such profile", 302: "answered 302 Found; redirects are not followed, so the control plane's endpoint has to be corrected",
		401: "answered 401 Unauthorized: no such profile", 404: "answered 404 Not Found: no such profile", 503: "answered 503 Service Unavailable: no such profile",
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t)
			d.net.answers["a.example"] = func(r *http.Request) (*http.Response, error) {
				response, err := status(code, "Retry-After", "1000")(r)
				response.Body = io.NopCloser(strings.NewReader("no such profile"))
				return response, err
			}
			d.open()
			defer d.stop()
			synctest.Wait()
			s := d.of("a")
			if s.LastErr != want || s.Since.IsZero() != (want != "") || want != "" && time.Until(s.Next) < 1000*time.Second {
				t.Errorf("%d: %+v", code, s)
			}
		})
	}
}

func TestProfilesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.open()
		defer d.stop()
		synctest.Wait()
		d.offer("x-pull", "x-push") // the same in another order
		synctest.Wait()
		if got := d.at("a.example"); len(got) != 1 {
			t.Errorf("nothing has changed: %v", got)
		}
		d.offer()
		synctest.Wait()
		arrived := d.net.arrivals()
		if body := arrived[len(arrived)-1].body; !strings.Contains(body, `"profiles":[],"transferTypes":[]`) {
			t.Error(body)
		}
		d.net.set("a.example", status(500))
		d.offer("y-pull")
		synctest.Wait()
		if s := d.of("a"); len(s.Profiles) != 0 || s.Since.IsZero() || s.LastErr == "" {
			t.Errorf("%+v", s)
		}
		if s := d.of("b"); !slices.Equal(s.Profiles, []string{"y-pull"}) {
			t.Errorf("%+v", s)
		}
	})
}

func TestDeregisterAndRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.open()
		defer d.stop()
		synctest.Wait()
		for _, code := range []int{200, 204, 404} {
			d.net.set("a.example", status(code))
			if err := d.Deregister(t.Context(), "a"); err != nil {
				t.Errorf("%d: %v", code, err)
			}
		}
		d.offer("y-pull")
		time.Sleep(time.Hour)
		if s := d.of("a"); s.State() != "deregistered" || !s.Withdrawn || !s.Since.IsZero() || s.Profiles != nil || !s.Next.IsZero() {
			t.Errorf("%+v", s)
		}
		const one = "DELETE /cp/dataplanes/dp%2F1"
		if diff := cmp.Diff([]string{"PUT /cp/dataplanes", one, one, one}, d.at("a.example")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}

		d.net.set("a.example", status(503))
		if err := d.Register(t.Context(), "a"); err == nil || err.Error() != `control plane "a": answered 503 Service Unavailable` {
			t.Error(err)
		}
		d.net.set("a.example", status(200))
		time.Sleep(time.Minute)
		if s := d.of("a"); s.Withdrawn || !slices.Equal(s.Profiles, []string{"y-pull"}) {
			t.Errorf("%+v", s)
		}
		d.net.set("a.example", status(500))
		if err := d.Deregister(t.Context(), "a"); err == nil {
			t.Error("nothing failed")
		}
		d.net.set("a.example", status(200))
		time.Sleep(time.Hour)
		if s := d.of("a"); !s.Withdrawn || s.LastErr != "answered 500 Internal Server Error" || s.Since.IsZero() {
			t.Errorf("%+v", s)
		}
		if got := d.at("a.example"); got[len(got)-1] != one {
			t.Errorf("registered again: %v", got)
		}
		for _, id := range []string{"c", "x"} {
			if err := d.Register(t.Context(), id); !errors.Is(err, ErrNoRegistration) {
				t.Errorf("%s: %v", id, err)
			}
			if err := d.Deregister(t.Context(), id); !errors.Is(err, ErrNoRegistration) {
				t.Errorf("%s: %v", id, err)
			}
		}
	})
}

// What an operator has taken back is not made again by the next process, and what could not be said is shown by it.
func TestWithdrawnForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		restart := func() {
			t.Helper()
			d.stop()
			d.metrics = prometheus.NewPedanticRegistry()
			d.open()
			time.Sleep(time.Hour)
		}
		d.open()
		synctest.Wait()
		if err := d.Deregister(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		d.net.set("b.example", status(500))
		if err := d.Deregister(t.Context(), "b"); err == nil {
			t.Error("nothing failed")
		}
		before := len(d.net.arrivals())
		restart()
		if after := len(d.net.arrivals()); after != before {
			t.Errorf("%d requests were made", after-before)
		}
		if s := d.of("a"); s.State() != "deregistered" || !s.Withdrawn {
			t.Errorf("%+v", s)
		}
		if s := d.of("b"); s.State() != "failed" || !s.Withdrawn || s.LastErr != "answered 500 Internal Server Error" {
			t.Errorf("%+v", s)
		}

		d.shelf.broken = errors.New("disk on fire")
		for _, change := range []func(context.Context, string) error{d.Register, d.Deregister} {
			if err := change(t.Context(), "a"); !errors.Is(err, d.shelf.broken) {
				t.Errorf("broken store: %v", err)
			}
		}
		if s := d.of("a"); s.State() != "deregistered" {
			t.Errorf("what was not stored has happened: %+v", s)
		}
		if _, err := NewRegistrar(t.Context(), RegistrarOptions{ControlPlanes: newDirectory(t, DirectoryOptions{}), Documents: d.shelf}); err == nil {
			t.Error("a store that cannot be read is taken for empty")
		}
		d.shelf.broken = nil

		if err := d.Register(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		restart()
		if s := d.of("a"); s.State() != "registered" {
			t.Errorf("after a restart: %+v", s)
		}

		d.shelf.PutDocument(t.Context(), flow.Document{Kind: withdrawnKind, Context: "default", ID: "a", Content: []byte("?")})
		d.shelf.PutDocument(t.Context(), flow.Document{Kind: withdrawnKind, Context: "other", ID: "b", Content: []byte("{}")})
		restart()
		if s := d.of("a"); s.State() != "failed" || !s.Withdrawn {
			t.Errorf("after nonsense: %+v", s)
		}
		d.stop()
	})
}

// A registration that is on its way arrives before the end of it, or not at all.
func TestDeregisterDuringRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.net.set("a.example", slowly(5*time.Second))
		d.open()
		defer d.stop()
		synctest.Wait()
		if err := d.Deregister(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if got := d.at("a.example"); len(got) != 2 || !strings.HasPrefix(got[1], "DELETE") || d.net.most() > 2 {
			t.Errorf("%v", got)
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go d.Register(t.Context(), "a")
		synctest.Wait()
		if err := d.Deregister(impatient, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(time.Minute)
	})
}

// A change that comes while an operator registers is part of that, and does not register once more.
func TestChangeDuringRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.open()
		defer d.stop()
		synctest.Wait()
		if err := d.Deregister(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		d.net.set("a.example", slowly(5*time.Second))
		go d.Register(t.Context(), "a")
		synctest.Wait()
		d.changed <- struct{}{}
		time.Sleep(time.Minute)
		if got := d.at("a.example"); len(got) != 3 {
			t.Errorf("%v", got)
		}
	})
}

func TestDeregisterOnStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		for _, id := range []string{"a", "b"} {
			d.planes[id].Registration.DeregisterOnStop = true
		}
		d.net.set("b.example", hang) // the attempt that is broken off may have arrived
		d.open()
		synctest.Wait()
		begun := time.Now()
		d.stop()
		if took := time.Since(begun); took > DefaultTimeout {
			t.Errorf("stopping took %v", took)
		}
		for _, host := range []string{"a.example", "b.example"} {
			if got := d.at(host); len(got) != 2 || !strings.HasPrefix(got[1], "DELETE") {
				t.Errorf("%s: %v", host, got)
			}
		}
		if strings.Contains(d.log.String(), "context canceled") {
			t.Errorf("log:\n%s", d.log)
		}
	})
}

func TestStopOfARegistrarThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.net.set("b.example", hang)
		d.open()
		synctest.Wait()
		if s := d.of("b"); s.State() != "pending" {
			t.Errorf("%+v", s)
		}
		d.stop()
		if got := d.at("a.example"); len(got) != 1 {
			t.Errorf("%v", got)
		}
	})
}

func TestRegistrationWithAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		var mu sync.Mutex // guards headers
		var headers []http.Header
		keep := func(r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			headers = append(headers, r.Header)
		}
		d.net.answers["management.example"] = func(r *http.Request) (*http.Response, error) {
			keep(r)
			response, err := status(400)(r)
			response.Body = io.NopCloser(strings.NewReader(`{"got":"hunter2\"&"}`))
			return response, err
		}
		d.planes = map[string]ControlPlane{"a": {Endpoint: "https://a.example", Outbound: Outbound{Type: AuthStatic, Secret: "callbacks"},
			Registration: &Registration{Endpoint: "https://management.example/v4/", DataPlaneEndpoint: "https://dp.example", Labels: []string{"eu"},
				Headers: map[string]string{"X-Api-Key": "management"}, Authorization: &AuthorizationEntry{Type: AuthClientCredentials,
					TokenEndpoint: "https://idp.example/token", ClientID: "cp", ClientSecret: `hunter2"&`, JWKSURI: "https://idp.example/jwks"}}},
			"b": {Endpoint: "https://b.example", Outbound: Outbound{Type: AuthStatic, Secret: "callbacks"},
				Registration: &Registration{DataPlaneEndpoint: "https://dp.example"}}}
		d.net.answers["b.example"] = func(r *http.Request) (*http.Response, error) {
			keep(r)
			return status(200)(r)
		}
		d.open()
		synctest.Wait()
		d.stop()
		for _, a := range d.net.arrivals() {
			conforms(t, "DataPlaneRegistrationMessage", []byte(a.body))
			if strings.Contains(a.url, "management") && (a.url != "https://management.example/v4/dataplanes" || !strings.Contains(a.body, `"labels":["eu"]`)) {
				t.Errorf("%s %s", a.url, a.body)
			}
		}
		for _, h := range headers {
			if h.Get("X-Api-Key") == "management" == (h.Get("Authorization") == "Bearer callbacks") {
				t.Errorf("%v", h)
			}
		}
		if s := d.of("a"); s.LastErr != "answered 400 Bad Request" || strings.Contains(d.log.String(), "hunter2") || strings.Contains(d.log.String(), "management\"") {
			t.Errorf("%+v, log:\n%s", s, d.log)
		}
	})
}

func TestRegistrationMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		d.net.set("b.example", status(500, "Retry-After", "3000"))
		d.open()
		synctest.Wait()
		d.stop()
		want := `
# HELP towpath_registered 1 if this data plane is registered at a control plane with its present profiles, otherwise 0.
# TYPE towpath_registered gauge
towpath_registered{control_plane="a"} 1
towpath_registered{control_plane="b"} 0
# HELP towpath_registration_attempts_total Attempts to register or deregister this data plane, by how they ended: done or failed.
# TYPE towpath_registration_attempts_total counter
towpath_registration_attempts_total{control_plane="a",operation="register",result="done"} 1
towpath_registration_attempts_total{control_plane="b",operation="register",result="failed"} 1
`
		if err := testutil.GatherAndCompare(d.metrics, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	})
}

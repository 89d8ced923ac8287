package signaling

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
)

// controlPlanes is a network of control planes in memory: what they answer, by host, and what reached them.
type controlPlanes struct {
	mu       sync.Mutex // guards what follows
	answers  map[string]func(*http.Request) (*http.Response, error)
	arrived  []arrival
	sending  int
	together int // most requests at a time
}

type arrival struct {
	at   time.Time
	url  string
	body string
}

func (c *controlPlanes) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	c.arrived = append(c.arrived, arrival{time.Now(), r.URL.String(), strings.TrimSpace(string(body))})
	c.sending++
	c.together = max(c.together, c.sending)
	answer := c.answers[r.URL.Host]
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sending--
	}()
	if answer == nil {
		answer = status(http.StatusOK)
	}
	return answer(r)
}

// set changes what a control plane answers. nil: 200.
func (c *controlPlanes) set(host string, answer func(*http.Request) (*http.Response, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[host] = answer
}

func (c *controlPlanes) arrivals() []arrival {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]arrival(nil), c.arrived...)
}

func (c *controlPlanes) most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.together
}

// urls returns the paths that were called, without the host.
func (c *controlPlanes) urls() []string {
	var urls []string
	for _, a := range c.arrivals() {
		_, path, _ := strings.Cut(strings.TrimPrefix(a.url, "https://"), "/")
		urls = append(urls, path)
	}
	return urls
}

// status answers with a code, and header fields as name, value, …
func status(code int, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
	}
}

// hang never answers.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// slowly takes its time.
func slowly(d time.Duration) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-time.After(d):
			return status(http.StatusOK)(r)
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

// office is a running dispatcher in a synctest bubble.
type office struct {
	t      *testing.T
	store  *storetest.Memory
	net    *controlPlanes
	planes map[string]ControlPlane // by id, which they get from it
	client *http.Client
	Dispatcher
	stop func() // ends Run and waits for it
}

// newOffice has the control planes a and b, at https://a.example/cp and https://b.example.
func newOffice(t *testing.T) *office {
	store, net := storetest.NewMemory(), &controlPlanes{answers: map[string]func(*http.Request) (*http.Response, error){}}
	return &office{t: t, store: store, net: net, client: &http.Client{Transport: net}, Dispatcher: Dispatcher{Outbox: store},
		planes: map[string]ControlPlane{
			"a": {Endpoint: "https://a.example/cp/"},
			"b": {Endpoint: "https://b.example"},
		}}
}

// furnish makes the directory. Each control plane has a secret of its own.
func (o *office) furnish() {
	o.t.Helper()
	options := DirectoryOptions{DataPlane: "dp", HTTP: o.client}
	for id, cp := range o.planes {
		cp.ID, cp.Inbound = id, Inbound{Type: AuthStatic, Secret: "secret of " + id}
		options.ControlPlanes = append(options.ControlPlanes, cp)
	}
	d, err := NewDirectory(o.t.Context(), options)
	if err != nil {
		o.t.Fatal(err)
	}
	o.ControlPlanes = d
}

func (o *office) open() {
	o.t.Helper()
	o.furnish()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	o.stop = func() {
		cancel()
		if err := <-done; err != nil {
			o.t.Errorf("Run: %v", err)
		}
		o.ControlPlanes.Close()
	}
}

// enqueue stores a flow, unless it is there, with callbacks.
func (o *office) enqueue(id, controlPlane string, callbacks ...flow.Callback) {
	o.t.Helper()
	key := flow.Key{Context: flow.DefaultContext, ID: id}
	err := o.store.Update(context.Background(), key, func(tx flow.Tx) error {
		if err := tx.Put(&flow.Flow{Key: key, State: flow.Started, ControlPlane: controlPlane}); err != nil {
			return err
		}
		for _, c := range callbacks {
			c.Key, c.ControlPlane = key, controlPlane
			if err := tx.Enqueue(c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
}

// stored returns a flow's callbacks.
func (o *office) stored(id string) []flow.Callback {
	o.t.Helper()
	callbacks, err := o.store.Callbacks(context.Background(), flow.Key{Context: flow.DefaultContext, ID: id})
	if err != nil {
		o.t.Fatal(err)
	}
	return callbacks
}

func completed(messageID string) flow.Callback {
	return flow.Callback{Kind: flow.CallbackCompleted, MessageID: messageID, State: flow.Completed}
}

func errored(messageID, text string) flow.Callback {
	return flow.Callback{Kind: flow.CallbackErrored, MessageID: messageID, State: flow.Started, Error: text}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/google/uuid"
)

// controlPlane plays the control plane of one host: it sends signals and takes callbacks. What the two control planes tell each other
// by the Dataspace Protocol is passed on by the stories.
type controlPlane struct {
	participant  string
	counterParty string
	signaling    string // base URL of its data plane
	url          string // where callbacks go
	server       *http.Server
	served       chan struct{} // closed when the server has ended

	mu    sync.Mutex // guards heard
	heard map[string][]callback
}

// callback is what a data plane reports.
type callback struct {
	kind string
	status
}

// newControlPlane returns a control plane that takes callbacks until it is closed.
func newControlPlane(participant, counterParty, signaling string) (*controlPlane, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for callbacks: %w", err)
	}
	c := &controlPlane{
		participant: participant, counterParty: counterParty, signaling: signaling, url: "http://" + l.Addr().String(),
		served: make(chan struct{}), heard: map[string][]callback{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /transfers/{id}/dataflow/{kind}", c.take)
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: requestTimeout}
	go func() {
		defer close(c.served)
		_ = c.server.Serve(l) // until close
	}()
	return c, nil
}

func (c *controlPlane) close() error {
	err := c.server.Close()
	<-c.served
	return err
}

// take takes a callback.
func (c *controlPlane) take(w http.ResponseWriter, r *http.Request) {
	called := callback{kind: r.PathValue("kind")}
	switch called.kind {
	case "prepared", "started", "completed", "errored":
	default:
		http.NotFound(w, r)
		return
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&called.status)
	if err != nil || called.DataFlowID != r.PathValue("id") {
		http.Error(w, "the callback is not a DataFlowStatusMessage of its flow", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard[called.DataFlowID] = append(c.heard[called.DataFlowID], called)
}

// outcome says whether the data plane has reported that the flow is completed. That it has errored is an error.
func (c *controlPlane) outcome(id string) (completed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, called := range c.heard[id] {
		switch called.kind {
		case "completed":
			completed = true
		case "errored":
			return false, fmt.Errorf("the data plane of the %s reports: %s", c.participant, called.Error)
		}
	}
	return completed, nil
}

// awaitCompleted returns when the data plane has reported that the flow is completed.
func (c *controlPlane) awaitCompleted(ctx context.Context, id string) error {
	return poll(ctx, func() (bool, error) { return c.outcome(id) })
}

// prepare creates the consumer's flow. For push it returns the address to send to.
func (c *controlPlane) prepare(ctx context.Context, id, profile string) (*dataAddress, error) {
	return c.create(ctx, "prepare", id, profile, nil)
}

// start creates the provider's flow. For pull it returns the address to read from.
func (c *controlPlane) start(ctx context.Context, id, profile string, to *dataAddress) (*dataAddress, error) {
	return c.create(ctx, "start", id, profile, to)
}

func (c *controlPlane) create(ctx context.Context, operation, id, profile string, a *dataAddress) (*dataAddress, error) {
	return c.signal(ctx, operation, operation, message{
		ParticipantID: c.participant, CounterPartyID: c.counterParty, DataspaceContext: "demo", DataFlowID: id,
		AgreementID: "agreement-" + id, DatasetID: datasetID, Profile: profile, Claims: &struct{}{}, DataAddress: a,
	})
}

// started tells the consumer's data plane that the provider has started, and for pull where.
func (c *controlPlane) started(ctx context.Context, id string, from *dataAddress) error {
	return c.tell(ctx, "started", id, message{DataAddress: from})
}

func (c *controlPlane) suspend(ctx context.Context, id string) error {
	return c.tell(ctx, "suspend", id, message{Reason: "the demo shows a pause"})
}

// resume lets a flow go on. It returns the new address if this side serves it.
func (c *controlPlane) resume(ctx context.Context, id string, a *dataAddress) (*dataAddress, error) {
	return c.signal(ctx, "resume", url.PathEscape(id)+"/resume", message{DataAddress: a})
}

func (c *controlPlane) terminate(ctx context.Context, id string) error {
	return c.tell(ctx, "terminate", id, message{Reason: "the demo shows a refusal"})
}

func (c *controlPlane) completed(ctx context.Context, id string) error {
	return c.tell(ctx, "completed", id, message{})
}

func (c *controlPlane) tell(ctx context.Context, operation, id string, m message) error {
	_, err := c.signal(ctx, operation, url.PathEscape(id)+"/"+operation, m)
	return err
}

// signal sends a message and returns the data address of the answer, nil if it has none.
func (c *controlPlane) signal(ctx context.Context, operation, path string, m message) (*dataAddress, error) {
	m.MessageID = uuid.NewString()
	answer, err := c.post(ctx, c.signaling+"/dataflows/"+path, m)
	if err != nil {
		return nil, fmt.Errorf("%s at the %s: %w", operation, c.participant, err)
	}
	return answer.DataAddress, nil
}

func (c *controlPlane) post(ctx context.Context, url string, m message) (*status, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := send(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := readBody(resp, 1<<20)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, problem(resp.Status, text)
	}
	answer := &status{}
	if err := json.Unmarshal(text, answer); err != nil {
		return nil, fmt.Errorf("the answer is not a DataFlowStatusMessage: %w", err)
	}
	return answer, nil
}

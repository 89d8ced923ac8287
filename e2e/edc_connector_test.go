//go:build linux

package e2e_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// dialect is how EDC's control planes of some versions speak to data planes.
type dialect struct {
	name         string
	versions     string
	dspace       string // namespace of data addresses
	start        string // what is added to a data plane's URL to start
	prepare      string // and to prepare; none in A
	provisions   bool
	destination  bool // transferTypeDestination is there
	transferType bool // transferType is there
	typeAsID     bool // endpointType is {"@id": …}
	checks       bool // a data plane is in use only if its heartbeat is good
	tractusX     bool // Tractus-X's connectors speak it today, and renew tokens
}

var dialects = []dialect{
	{name: "A", versions: "0.6 to 0.7", dspace: "https://w3id.org/dspace/v0.8/"},
	{name: "B", versions: "0.8 to 0.14", dspace: "https://w3id.org/dspace/v0.8/", provisions: true, destination: true, checks: true},
	{name: "C", versions: "0.15", dspace: "https://w3id.org/dspace/v0.8/", start: "/start", prepare: "/prepare", provisions: true, destination: true,
		checks: true},
	{name: "D", versions: "0.16 to 0.18", dspace: "https://w3id.org/dspace/2025/1/", start: "/start", prepare: "/prepare", provisions: true,
		destination: true, transferType: true, typeAsID: true, tractusX: true},
}

const edcNames = "https://w3id.org/edc/v0.0.1/ns/"

func (d dialect) message(kind string, members message) message {
	m := message{"@type": kind, "@context": message{"odrl": "http://www.w3.org/ns/odrl/2/", "dspace": d.dspace, "@vocab": edcNames}}
	for name, value := range members {
		m[name] = value
	}
	return m
}

// address writes a data address: one property is no list, and names that EDC does not know have no namespace.
func (d dialect) address(kind string, properties ...string) message {
	list := []any{}
	for i := 0; i < len(properties); i += 2 {
		name := properties[i]
		if !strings.Contains(name, ":") {
			name = edcNames + name
		}
		list = append(list, message{"@type": "dspace:EndpointProperty", "dspace:name": name, "dspace:value": properties[i+1]})
	}
	a := message{"@type": "dspace:DataAddress", "dspace:endpointType": kind, "dspace:endpointProperties": list}
	if len(list) == 1 {
		a["dspace:endpointProperties"] = list[0]
	}
	if d.typeAsID {
		a["dspace:endpointType"] = message{"@id": kind}
	}
	return a
}

// connector is an EDC control plane in one dialect, as a test uses it: it lets data planes register, sends them its transfer processes, and
// hears how those end.
type connector struct {
	dialect
	*edcOffice
	t testing.TB
}

// edcOffice is what an EDC control plane keeps.
type edcOffice struct {
	id     string // in the data plane's configuration
	server *httptest.Server

	mu        sync.Mutex // guards what follows
	plane     *dataPlane // that has registered
	processes map[string]*transferProcess
}

// in is the same connector in another test.
func (c *connector) in(t testing.TB) *connector { return &connector{c.dialect, c.edcOffice, t} }

// dataPlane is a DataPlaneInstance.
type dataPlane struct {
	ID             string   `json:"@id"`
	Type           string   `json:"@type"`
	URL            string   `json:"url"`
	SourceTypes    []string `json:"allowedSourceTypes"`
	TransferTypes  []string `json:"allowedTransferTypes"`
	ProvisionTypes []string `json:"destinationProvisionTypes"`
	Context        message  `json:"@context"`

	registered int  // times
	available  bool // as its heartbeat says, or as nobody asks
}

// transferProcess is a transfer process.
type transferProcess struct {
	*connector
	id     string
	state  string // STARTED, COMPLETED, TERMINATED, …
	leased int    // callbacks that are refused, since it is being worked on
	said   []string
	failed string            // what /fail said
	given  map[string]string // what /provisioned said
}

// newConnector returns a connector that listens, as a control plane that a host knows by an id.
func newConnector(t testing.TB, d dialect) *connector {
	t.Helper()
	c := &connector{d, &edcOffice{id: "edc-" + strings.ToLower(d.name), processes: map[string]*transferProcess{}}, t}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/control/v1/dataplanes", c.register)
	mux.HandleFunc("GET /api/control/v1/dataplanes/{id}", c.known(func(http.ResponseWriter) {}))
	mux.HandleFunc("DELETE /api/control/v1/dataplanes/{id}", c.known(func(w http.ResponseWriter) {
		c.plane = nil
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("POST /api/control/transferprocess/{id}/{what}", c.hear)
	c.server = httptest.NewServer(mux)
	t.Cleanup(c.server.Close)
	return c
}

func (c *connector) control() string { return c.server.URL + "/api/control" }

// block is the connector as a host's configuration has it.
func (c *connector) block() string {
	renewal := ""
	if c.tractusX {
		renewal = `renewal = "tractusx"`
	}
	return fmt.Sprintf(`
control_plane %q {
  protocol = "edc"
  endpoint = %q
  %s

  registration {
    destination_provision_types = ["HttpData"]
    deregister_on_stop          = true
  }
}
`, c.id, c.control(), renewal)
}

// register takes a registration, as EDC's validator does, and asks the data plane for its heartbeat.
func (c *connector) register(w http.ResponseWriter, r *http.Request) {
	p := &dataPlane{}
	if err := json.NewDecoder(r.Body).Decode(p); err != nil || p.ID == "" || p.URL == "" || len(p.SourceTypes) == 0 || len(p.TransferTypes) == 0 ||
		p.Type != "DataPlaneInstance" || p.Context["@vocab"] != edcNames {
		http.Error(w, `[{"message":"not valid","type":"ValidationFailure"}]`, http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plane != nil {
		p.registered = c.plane.registered
	}
	p.registered++
	p.available = !c.checks
	c.plane = p
	json.NewEncoder(w).Encode(message{"@context": message{}, "@type": "IdResponse", "@id": p.ID, "createdAt": 1750000000000})
}

// known calls then, which is guarded, for a data plane that is registered.
func (c *connector) known(then func(http.ResponseWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.plane == nil || c.plane.ID != r.PathValue("id") {
			http.Error(w, `[{"message":"Object of type DataPlaneInstance was not found","type":"ObjectNotFound"}]`, http.StatusNotFound)
			return
		}
		then(w)
	}
}

// hear takes a callback as EDC's transfer process API does.
func (c *connector) hear(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.processes[r.PathValue("id")]
	switch {
	case err != nil:
		panic(http.ErrAbortHandler)
	case p == nil:
		http.Error(w, `[{"message":"not found","type":"ObjectNotFound"}]`, http.StatusNotFound)
	case p.leased > 0:
		p.leased--
		http.Error(w, `[{"message":"Entity is leased","type":"ObjectConflict"}]`, http.StatusConflict)
	case p.state == "COMPLETED" || p.state == "TERMINATED":
		http.Error(w, `[{"message":"Cannot process because it's `+p.state+`","type":"ObjectConflict"}]`, http.StatusConflict)
	default:
		w.WriteHeader(p.heard(r.PathValue("what"), body))
	}
}

// heard moves a transfer process, and returns the status to answer with. It is guarded.
func (p *transferProcess) heard(what string, body []byte) int {
	switch what {
	case "complete":
		if len(body) > 0 {
			return http.StatusBadRequest
		}
		p.state = "COMPLETED"
	case "fail":
		var said struct{ ErrorMessage *string }
		if json.Unmarshal(body, &said) != nil || said.ErrorMessage == nil {
			return http.StatusBadRequest
		}
		p.state, p.failed = "TERMINATED", *said.ErrorMessage
	case "provisioned":
		var said struct{ Properties map[string]string }
		if json.Unmarshal(body, &said) != nil || said.Properties[edcNames+"type"] == "" {
			return http.StatusBadRequest
		}
		p.state, p.given = "PROVISIONED", said.Properties
	default:
		return http.StatusNotFound
	}
	p.said = append(p.said, what)
	return http.StatusNoContent
}

// awaitPlane waits until a data plane has registered and is in use, and returns it.
func (c *connector) awaitPlane() dataPlane {
	c.t.Helper()
	var plane dataPlane
	eventually(c.t, "registration with "+c.id, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.plane == nil {
			return false
		}
		plane = *c.plane
		return true
	})
	if c.checks && !plane.available {
		code, text, err := fetch(plane.URL+"/check", "")
		if err != nil || code != http.StatusOK && code != http.StatusNoContent {
			c.t.Fatalf("heartbeat for %s: %d %s %v", c.id, code, text, err)
		}
		plane.available = true
	}
	return plane
}

// begin makes a transfer process that callbacks can be about.
func (c *connector) begin(id string, leased int) *transferProcess {
	p := &transferProcess{connector: c, id: c.id + "-" + id, state: "STARTING", leased: leased}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes[p.id] = p
	return p
}

func (p *transferProcess) now() transferProcess {
	p.mu.Lock()
	defer p.mu.Unlock()
	return transferProcess{state: p.state, failed: p.failed, given: p.given, said: slices.Clone(p.said)}
}

// await waits until a transfer process is in a state.
func (p *transferProcess) await(state string) transferProcess {
	p.t.Helper()
	var now transferProcess
	eventually(p.t, p.id+" is "+state, func() bool { now = p.now(); return now.state == state })
	return now
}

// post sends a message to the data plane, and returns the answer if it is a success as EDC sees it.
func (c *connector) post(path string, m message) (answer []byte) {
	c.t.Helper()
	code, text := c.try(path, m)
	if code != http.StatusOK && code != http.StatusNoContent {
		c.t.Fatalf("%s: %s answered %d %s", c.id, path, code, text)
	}
	return []byte(text)
}

func (c *connector) try(path string, m message) (code int, text string) {
	c.t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := client.Post(c.awaitPlane().URL+path, "application/json", bytes.NewReader(body))
	if err != nil {
		c.t.Fatalf("%s: %s: %v", c.id, path, err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(got)
}

// edcTransfer says what a transfer process is about.
type edcTransfer struct {
	flow        string // PUSH, PULL
	response    string // the type of the response channel, "" for none
	asset       string
	source      message // address
	destination message // address, of PUSH
	properties  message // of the flow
	kind        string  // of transfer type, before its direction; "" for HttpData
}

func (c *connector) about(p *transferProcess, x edcTransfer) message {
	m := message{"processId": p.id, "flowType": x.flow, "agreementId": "agreement", "datasetId": x.asset, "participantId": "consumer",
		"properties": message{}, "callbackAddress": c.control()}
	if x.properties != nil {
		m["properties"] = x.properties
	}
	kind := cmp.Or(x.kind, "HttpData")
	if c.destination {
		m["transferTypeDestination"] = kind
		if x.response != "" {
			m["responseChannel"] = x.response
		}
	}
	if c.transferType {
		m["transferType"] = kind + "-" + x.flow
		if x.response != "" {
			m["transferType"] = kind + "-" + x.flow + "-" + x.response
		}
	}
	return m
}

// start starts a transfer process, or starts it again, and returns the properties of the address that the data plane has given.
func (p *transferProcess) start(x edcTransfer) edr {
	p.t.Helper()
	m := p.about(p, x)
	m["sourceDataAddress"] = x.source
	if x.destination != nil {
		m["destinationDataAddress"] = x.destination
	}
	answer := p.post(p.dialect.start, p.message("DataFlowStartMessage", m))
	p.mu.Lock()
	if p.state == "STARTING" || p.state == "SUSPENDED" || p.state == "PROVISIONED" {
		p.state = "STARTED"
	}
	p.mu.Unlock()
	return p.read(answer)
}

// provision has a data plane prepare the destination of a transfer process. async says that it is still at it.
func (p *transferProcess) provision(x edcTransfer) (given edr, async bool) {
	p.t.Helper()
	m := p.about(p, x)
	m["destination"] = x.destination
	given = p.read(p.post(p.prepare, p.message("DataFlowProvisionMessage", m)))
	return given, given["provisioning"] == "true"
}

func (p *transferProcess) suspend() {
	p.t.Helper()
	p.post("/"+p.id+"/suspend", p.message("DataFlowSuspendMessage", nil))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = "SUSPENDED"
}

func (p *transferProcess) terminate() {
	p.t.Helper()
	p.post("/"+p.id+"/terminate", p.message("DataFlowTerminateMessage", nil))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != "COMPLETED" {
		p.state = "TERMINATED"
	}
}

// expectPlaneState asks the data plane for the state of the flow.
func (p *transferProcess) expectPlaneState(want string) {
	p.t.Helper()
	code, text, err := fetch(p.awaitPlane().URL+"/"+p.id+"/state", "")
	var m struct {
		Type  string `json:"@type"`
		State string
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &m)
	}
	if err != nil || code != http.StatusOK || m.Type != "DataFlowState" || m.State != want {
		p.t.Errorf("state of %s: %d %s %v, want %s", p.id, code, text, err, want)
	}
}

// edr is what an answer says, by EDC's bare names: the properties of its address, and whether the data plane is still at work.
type edr map[string]string

// read reads a DataFlowResponseMessage. It understands no other namespaces than those of its dialect, and no empty answer.
func (c *connector) read(answer []byte) edr {
	c.t.Helper()
	var m struct {
		Context      map[string]any `json:"@context"`
		Type         string         `json:"@type"`
		Provisioning bool
		DataAddress  *struct {
			Type       json.RawMessage  `json:"dspace:endpointType"`
			Properties []map[string]any `json:"dspace:endpointProperties"`
		}
	}
	if err := json.Unmarshal(answer, &m); err != nil || m.Type != "DataFlowResponseMessage" || m.Context["@vocab"] != edcNames {
		c.t.Fatalf("%s: answer %s: %v", c.id, answer, err)
	}
	said := edr{"provisioning": fmt.Sprint(m.Provisioning)}
	if m.DataAddress == nil {
		return said
	}
	if m.Context["dspace"] != c.dspace {
		c.t.Errorf("%s: the answer's addresses are in %v", c.id, m.Context["dspace"])
	}
	if byID := strings.HasPrefix(string(m.DataAddress.Type), "{"); byID != c.typeAsID {
		c.t.Errorf("%s: endpointType %s", c.id, m.DataAddress.Type)
	}
	for _, p := range m.DataAddress.Properties {
		name, _ := p["dspace:name"].(string)
		value, ok := p["dspace:value"].(string)
		if !ok {
			c.t.Errorf("%s: property %v", c.id, p)
		}
		said[strings.TrimPrefix(name, edcNames)] = value
	}
	return said
}

// get reads what an address gives access to, as EDC's clients do: the token is sent as it came.
func (a edr) get() (code int, body string, err error) {
	r, err := http.NewRequest(http.MethodGet, a["endpoint"], nil)
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", a["authorization"])
	response, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	all, err := io.ReadAll(response.Body)
	return response.StatusCode, string(all), err
}

func (a edr) expect(t testing.TB, code int, body string) {
	t.Helper()
	got, text, err := a.get()
	if err != nil || got != code || body != "" && text != body {
		t.Errorf("%s: %d %.200q %v, want %d %q", a["endpoint"], got, text, err, code, body)
	}
}

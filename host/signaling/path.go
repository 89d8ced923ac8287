package signaling

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// endpoint is what a request's path names: an operation and, unless the message names it, the flow; or the control plane.
type endpoint struct {
	operation operation
	id        string
}

// operation is one of the things that can be asked for. Its text is also its label in logs and metrics.
type operation string

const (
	opPrepare   = operation(flow.SignalPrepare)
	opStart     = operation(flow.SignalStart)
	opStarted   = operation(flow.SignalStarted)
	opSuspend   = operation(flow.SignalSuspend)
	opResume    = operation(flow.SignalResume)
	opTerminate = operation(flow.SignalTerminate)
	opCompleted = operation(flow.SignalCompleted)
	opStatus    = operation("status")

	opRegister   = operation("register")
	opDeregister = operation("deregister")
)

const (
	// collection is the path segment that the endpoints about flows are below.
	collection = "dataflows"
	// registrations is the one for control planes.
	registrations = "controlplanes"
)

// The paths of the specification: those that create a flow, and those that follow the id of one.
var (
	creating = map[string]operation{
		"prepare": opPrepare,
		"start":   opStart,
	}
	following = map[string]operation{
		"started":   opStarted,
		"suspend":   opSuspend,
		"resume":    opResume,
		"terminate": opTerminate,
		"completed": opCompleted,
		"status":    opStatus,
	}
)

// formerly are the paths that older drafts had after the id of a flow.
var formerly = map[string]operation{
	"":         opStatus,
	"start":    opStarted,
	"complete": opCompleted,
}

// parsePath finds what an escaped path below base names. Unless strict, it also knows the paths of older drafts, and "dataflows" may
// be there twice or not at all: control planes differ in whether the endpoint they are registered with ends in it.
func parsePath(base, escaped string, strict bool) (endpoint, error) {
	below, ok := strings.CutPrefix(escaped, base+"/")
	if !ok {
		return endpoint{}, noEndpoint(escaped)
	}
	segments := strings.Split(below, "/")
	for i, s := range segments {
		unescaped, err := url.PathUnescape(s)
		if err != nil {
			return endpoint{}, &flow.RequestError{Message: "the path is not escaped correctly", Err: err}
		}
		segments[i] = unescaped
	}
	to, ok := findRegistration(segments)
	if !ok {
		to, ok = find(segments, strict)
	}
	if !ok {
		return endpoint{}, noEndpoint(escaped)
	}
	if creating[string(to.operation)] == "" && to.operation != opRegister {
		if why := flow.CheckID(to.id); why != "" {
			return endpoint{operation: to.operation}, &flow.RequestError{Message: "the id of the " + to.subject() + " in the path " + why}
		}
	}
	return to, nil
}

func noEndpoint(escaped string) error {
	return noSuchEndpoint.problem("there is nothing at %.300q", escaped)
}

// findRegistration finds the endpoints about control planes, which are no flow's whatever follows.
func findRegistration(segments []string) (to endpoint, ok bool) {
	switch {
	case segments[0] != registrations:
		return endpoint{}, false
	case len(segments) == 1:
		return endpoint{operation: opRegister}, true
	case len(segments) == 2:
		return endpoint{operation: opDeregister, id: segments[1]}, true
	default:
		return endpoint{}, false
	}
}

// subject is what the id of an endpoint names.
func (e endpoint) subject() string {
	if e.ofRegistration() {
		return "control plane"
	}
	return "data flow"
}

// ofRegistration reports whether an endpoint is about control planes.
func (e endpoint) ofRegistration() bool {
	return e.operation == opRegister || e.operation == opDeregister
}

func find(segments []string, strict bool) (endpoint, bool) {
	tails := tails(segments, strict)
	for _, tail := range tails {
		if to, ok := specified(tail); ok {
			return to, true
		}
	}
	for _, tail := range tails {
		if to, ok := former(tail); ok && !strict {
			return to, true
		}
	}
	return endpoint{}, false
}

// tails returns what can follow the collection in segments, the likeliest first.
func tails(segments []string, strict bool) [][]string {
	first := len(segments) > 1 && segments[0] == collection
	second := first && len(segments) > 2 && segments[1] == collection
	switch {
	case first && second && !strict:
		return [][]string{segments[1:], segments[2:]}
	case first:
		return [][]string{segments[1:]}
	case len(segments) == 1 && creating[segments[0]] == "": // not every path of one segment is a flow
		return nil
	case strict:
		return nil
	default:
		return [][]string{segments}
	}
}

func specified(tail []string) (endpoint, bool) {
	var to endpoint
	switch len(tail) {
	case 1:
		to = endpoint{operation: creating[tail[0]]}
	case 2:
		to = endpoint{operation: following[tail[1]], id: tail[0]}
	}
	return to, to.operation != ""
}

func former(tail []string) (endpoint, bool) {
	switch len(tail) {
	case 1:
		return endpoint{operation: formerly[""], id: tail[0]}, tail[0] != ""
	case 2:
		op, ok := formerly[tail[1]]
		return endpoint{operation: op, id: tail[0]}, ok && tail[1] != ""
	default:
		return endpoint{}, false
	}
}

// allow lists the methods that an endpoint takes, as in the Allow header.
func (e endpoint) allow() string { return strings.Join(e.methods(), ", ") }

func (e endpoint) takes(method string) bool { return slices.Contains(e.methods(), method) }

func (e endpoint) methods() []string {
	switch e.operation {
	case opStatus:
		return []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	case opRegister:
		return []string{http.MethodPut, http.MethodOptions}
	case opDeregister:
		return []string{http.MethodDelete, http.MethodOptions}
	default:
		return []string{http.MethodPost, http.MethodOptions}
	}
}

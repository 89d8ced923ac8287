package edc

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// place is what a request's path names: an operation, and the flow unless the message names it.
type place struct {
	operation operation
	id        string
}

// operation is one of the things that can be asked for. Its text is also its label in logs and metrics.
type operation string

const (
	opMessage   operation = "message" // whatever the message's type says
	opStart               = operation(flow.SignalStart)
	opPrepare             = operation(flow.SignalPrepare)
	opAgain               = operation(flow.SignalAgain)
	opSuspend             = operation(flow.SignalSuspend)
	opTerminate           = operation(flow.SignalTerminate)
	opState     operation = "state"
	opCheck     operation = "check"
)

// The paths below the base: of one segment, and those that follow the id of a flow.
var (
	creating  = map[string]operation{"": opMessage, "start": opStart, "prepare": opPrepare, "check": opCheck}
	following = map[string]operation{"start": opAgain, "suspend": opSuspend, "terminate": opTerminate, "state": opState}
)

// of are the operations that messages are for.
var of = map[string]operation{startMessage: opStart, provisionMessage: opPrepare, suspendMessage: opSuspend, terminateMessage: opTerminate}

// parsePath finds what an escaped path below base names. The error is a *problem.
func parsePath(base, escaped string) (place, error) {
	below, ok := strings.CutPrefix(escaped, base)
	if !ok || below != "" && below[0] != '/' {
		return place{}, noEndpoint(escaped)
	}
	segments := strings.Split(strings.TrimPrefix(below, "/"), "/")
	for i, s := range segments {
		unescaped, err := url.PathUnescape(s)
		if err != nil {
			return place{}, invalid("", "the path is not escaped correctly")
		}
		segments[i] = unescaped
	}
	var to place
	switch len(segments) {
	case 1:
		to = place{operation: creating[segments[0]]}
	case 2:
		to = place{operation: following[segments[1]], id: segments[0]}
	}
	if to.operation == "" {
		return place{}, noEndpoint(escaped)
	}
	if why := flow.CheckID(to.id); why != "" && len(segments) == 2 {
		return place{operation: to.operation}, invalid("", "the id of the data flow in the path %s", why)
	}
	return to, nil
}

func noEndpoint(escaped string) error {
	return noSuchEndpoint.problem("there is nothing at %.300q", escaped)
}

// methods are those that an operation takes, in the order in which Allow lists them.
func (o operation) methods() []string {
	if o == opState || o == opCheck {
		return []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	}
	return []string{http.MethodPost, http.MethodOptions}
}

func (o operation) allow() string { return strings.Join(o.methods(), ", ") }

func (o operation) takes(method string) bool { return slices.Contains(o.methods(), method) }

package signaling

import (
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Protocol is how a control plane is told things that does not speak Data Plane Signaling. Its methods may be called concurrently.
type Protocol interface {
	// Name names it to operators.
	Name() string
	// Callback returns the URL to which a callback is POSTed and the body, nil for none. endpoint is the control plane's.
	Callback(endpoint string, c flow.Callback) (url string, body []byte)
	// Verdict says what an answer's status means for a callback of some age: that it has arrived, or that it never will. Neither: it is
	// sent again.
	Verdict(status int, age time.Duration) (arrived, final bool)
	// Registration returns the URL to which the registration of a data plane is POSTed, and the body. The data plane is told by its id,
	// the URL of its signaling API, and the profiles and types of sources it offers. The error says what is missing.
	Registration(endpoint, id, api string, profiles, sources []string) (url string, body []byte, err error)
	// Deregistration returns the requests, each a method and a URL, that end a registration: what is answered by 405 is followed by the
	// next.
	Deregistration(endpoint, id string) [][2]string
	// Registered returns the URL at which a registration is asked for now and then, and Lost reads the answer: whether the control plane
	// has no registration any more, though nobody ended it.
	Registered(endpoint, id string) string
	Lost(status int, body []byte) bool
}

// dps is the name of Data Plane Signaling, which is spoken where there is no Protocol.
const dps = "dps"

func (cp ControlPlane) protocolName() string {
	if cp.Protocol == nil {
		return dps
	}
	return cp.Protocol.Name()
}

// callback returns the URL and the body of a callback.
func (cp ControlPlane) callback(c flow.Callback) (url string, body []byte) {
	if cp.Protocol == nil {
		return callbackURL(cp.Endpoint, c), callbackBody(c)
	}
	return cp.Protocol.Callback(cp.Endpoint, c)
}

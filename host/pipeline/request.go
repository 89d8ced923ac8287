package pipeline

import (
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Request keeps account of one request for the data of a flow: what it waits for, and what it has moved. It begins at the host. All
// methods may be called concurrently.
type Request struct {
	accounts *Accounts
	account  *account
	flow     sdk.FlowContext

	mu     sync.Mutex // guards what follows; taken after that of the account
	hop    hop
	behind hop // where it was before it came to a limit
	since  time.Time
	spent  [hops]time.Duration
	served int64
}

// Request opens the account of a request, which has to be closed.
func (a *Accounts) Request(f sdk.FlowContext) *Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.use(f)
	r := &Request{accounts: a, account: one, flow: f, hop: atHost, since: time.Now()}
	one.mu.Lock()
	defer one.mu.Unlock()
	one.requests[r] = struct{}{}
	return r
}

// Source says that the request waits for the source from now on; Host and Sink likewise.
func (r *Request) Source() { r.at(atSource) }

// Host says that the request waits for this host.
func (r *Request) Host() { r.at(atHost) }

// Sink says that the request waits for the sink.
func (r *Request) Sink() { r.at(atSink) }

func (r *Request) at(h hop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.atLocked(h)
}

func (r *Request) atLocked(h hop) {
	if r.hop == h {
		return
	}
	now := time.Now()
	r.spent[r.hop] += now.Sub(r.since)
	r.hop, r.since = h, now
}

// Limited says that the request waits for a limit, or no longer does: it then waits again for what it did before.
func (r *Request) Limited(now bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now {
		r.behind = r.hop
		r.atLocked(atLimit)
	} else {
		r.atLocked(r.behind)
	}
}

// Moved counts bytes.
func (r *Request) Moved(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.served += bytes
}

func (r *Request) waited(now time.Time) [hops]time.Duration {
	spent := r.spent
	spent[r.hop] += now.Sub(r.since)
	return spent
}

// Close is the end of the request.
func (r *Request) Close() {
	now, a, one := time.Now(), r.accounts, r.account
	a.mu.Lock()
	defer a.mu.Unlock()
	one.mu.Lock()
	defer one.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&one.asked, r.waited(now))
	one.served += r.served
	delete(one.requests, r)
	a.rest(r.flow, one)
}

package pipeline

import (
	"container/list"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Hop is what a transfer or a request waits for.
type Hop string

// The hops.
const (
	HopSource Hop = "source" // the source, to open or to give more; of an ingest the client that sends
	HopHost   Hop = "host"   // this host, to find addresses or to store a place
	HopSink   Hop = "sink"   // the sink, to open, to take more or to be done; of a pull the client that reads
	HopLimit  Hop = "limit"  // a rate
	HopQueue  Hop = "queue"  // a place among the transfers that may run
	HopRetry  Hop = "retry"  // the next attempt
)

// Hops lists all hops.
func Hops() []Hop { return []Hop{HopSource, HopHost, HopSink, HopLimit, HopQueue, HopRetry} }

// hop is an index in Hops. There is always one at which a transfer is: all its time is on somebody's account.
type hop int

const (
	atSource hop = iota
	atHost
	atSink
	atLimit
	atQueue
	atRetry
	hops
)

// account is what the transfers and requests of one flow have waited for. A nil account keeps nothing.
type account struct {
	watchdog *Watchdog
	ended    *list.Element // in Accounts.ended; nil while something of the flow runs. Guarded by Accounts.mu

	mu       sync.Mutex // guards what follows
	runs     bool
	hop      hop
	storing  bool // a place is being stored: a source that gives nothing may be waiting for that
	since    time.Time
	spent    [hops]time.Duration
	life     time.Time // of the last thing that the sink said
	blocked  *sdk.Blocked
	from, to string // types of the addresses
	stalled  bool
	copied   int64 // bytes that stores have copied
	copying  struct {
		index uint64 // of the part that was copied last
		bytes int64  // of it
	}
	requests map[*Request]struct{}
	asked    [hops]time.Duration // what requests that have ended had waited for
	served   int64               // by them
}

// at says what the transfer waits for from now on.
func (a *account) at(h hop) {
	if a == nil {
		return
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.charge(now)
	a.hop, a.since = h, now
}

// limited says that the transfer waits for a limit, or no longer does.
func (a *account) limited(now bool) {
	if now {
		a.at(atLimit)
	} else {
		a.at(atSink)
	}
}

// charge puts the time since the last change on the account of who was waited for.
func (a *account) charge(now time.Time) {
	if !a.runs {
		return
	}
	a.spent[a.owner()] += now.Sub(a.since)
}

func (a *account) owner() hop {
	if a.storing && a.hop == atSource {
		return atHost
	}
	return a.hop
}

// store says that a place is being stored, or no longer is.
func (a *account) store(begins bool) {
	if a == nil {
		return
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hop == atSource {
		a.charge(now)
		a.since = now
	}
	a.storing = begins
}

// hears takes note of what the sink says.
func (a *account) hears(up sdk.Up) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.life = time.Now()
	if b, ok := up.(*sdk.Blocked); ok {
		a.blocked = b
	}
}

// begin is the beginning of an attempt between addresses of these types.
func (a *account) begin(from, to string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from, a.to, a.blocked, a.storing = from, to, nil, false
}

// Waits is what is waited for in a flow.
type Waits struct {
	// Runs reports whether there is a transfer.
	Runs bool
	// Hop is what it waits for; without a transfer what that request waits for which has waited longest; "" if nothing runs.
	Hop Hop
	// Waited is how long the flow's transfers and requests have waited for each hop, each request by itself.
	Waited map[Hop]time.Duration
	// Copied is how many bytes the store has copied, which this host has not seen.
	Copied int64
	// Served counts the bytes that requests have moved.
	Served int64
	// Condition and Text are what the watchdog says about the transfer.
	Condition Condition
	Text      string
}

func (a *account) waits(now time.Time) Waits {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := Waits{Runs: a.runs, Waited: map[Hop]time.Duration{}, Served: a.served, Copied: a.copied}
	if a.runs {
		w.Hop = Hops()[a.owner()]
	}
	all, since := a.waited(now), now
	add(&all, a.asked)
	for r := range a.requests {
		r.mu.Lock()
		w.Served += r.served
		add(&all, r.waited(now))
		if !a.runs && !r.since.After(since) {
			w.Hop, since = Hops()[r.hop], r.since
		}
		r.mu.Unlock()
	}
	for h, spent := range all {
		if spent > 0 {
			w.Waited[Hops()[h]] = spent
		}
	}
	w.Condition, w.Text = a.condition(now)
	return w
}

func (a *account) waited(now time.Time) [hops]time.Duration {
	spent := a.spent
	if a.runs {
		spent[a.owner()] += now.Sub(a.since)
	}
	return spent
}

// Accounts keep what transfers and requests wait for, by flow. All methods may be called concurrently.
type Accounts struct {
	watchdog Watchdog
	queued   prometheus.Histogram
	stalls   prometheus.Counter

	mu          sync.Mutex // guards what follows
	flows       map[flowKey]*account
	ended       *list.List          // of flowKey: flows of which nothing runs, in the order in which they came to that
	past, asked [hops]time.Duration // of flows that are not in flows any more: by their transfers, and by their requests
}

type flowKey struct{ context, id string }

// maxEnded is how many flows are remembered of which nothing runs.
const maxEnded = 2048

// NewAccounts returns Accounts, the sums of which r publishes, if it is not nil.
func NewAccounts(w Watchdog, r prometheus.Registerer) *Accounts {
	a := &Accounts{watchdog: w.complete(), flows: map[flowKey]*account{}, ended: list.New(),
		queued: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "towpath_transfer_queue_seconds",
			Help: "Time that transfers have waited for a place among those that may run.", Buckets: prometheus.ExponentialBuckets(0.001, 10, 8)}),
		stalls: prometheus.NewCounter(prometheus.CounterOpts{Name: "towpath_transfer_stalls_total",
			Help: "Transfers that were found stalled: neither side had moved, nor answered."}),
	}
	if r != nil {
		r.MustRegister(a, a.queued, a.stalls)
	}
	return a
}

// open returns the account of a flow whose transfer begins.
func (a *Accounts) open(f sdk.FlowContext) *account {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.use(f)
	one.mu.Lock()
	defer one.mu.Unlock()
	one.runs, one.hop, one.since = true, atHost, time.Now()
	return one
}

// use returns the account of a flow of which something runs.
func (a *Accounts) use(f sdk.FlowContext) *account {
	key := flowKey{f.ParticipantContext, f.ID}
	one := a.flows[key]
	if one == nil {
		one = &account{watchdog: &a.watchdog, requests: map[*Request]struct{}{}}
		a.flows[key] = one
	}
	if one.ended != nil {
		a.ended.Remove(one.ended)
		one.ended = nil
	}
	return one
}

// close says that the flow has no transfer any more.
func (a *Accounts) close(f sdk.FlowContext, one *account) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	one.mu.Lock()
	defer one.mu.Unlock()
	one.charge(time.Now())
	one.runs, one.stalled = false, false
	a.rest(f, one)
}

// rest keeps an account for a while, if nothing of its flow runs.
func (a *Accounts) rest(f sdk.FlowContext, one *account) {
	if one.runs || len(one.requests) > 0 {
		return
	}
	one.ended = a.ended.PushBack(flowKey{f.ParticipantContext, f.ID})
	if a.ended.Len() <= maxEnded {
		return
	}
	key := a.ended.Remove(a.ended.Front()).(flowKey)
	oldest := a.flows[key] // another one: that one was put last
	add(&a.past, oldest.spent)
	add(&a.asked, oldest.asked)
	delete(a.flows, key)
}

// admitted counts the time that an attempt has waited for its place.
func (a *Accounts) admitted(d time.Duration) {
	if a != nil {
		a.queued.Observe(d.Seconds())
	}
}

// Of returns what is waited for in a flow, and false if nothing of it runs, nor has lately.
func (a *Accounts) Of(participantContext, id string) (Waits, bool) {
	a.mu.Lock()
	one := a.flows[flowKey{participantContext, id}]
	a.mu.Unlock()
	if one == nil {
		return Waits{}, false
	}
	return one.waits(time.Now()), true
}

var (
	blockedDesc = prometheus.NewDesc("towpath_transfer_blocked_seconds_total",
		"Time that transfers have waited, by the hop they waited for.", []string{"hop"}, nil)
	askedDesc = prometheus.NewDesc("towpath_request_blocked_seconds_total",
		"Time that requests for the data of flows have waited, by the hop they waited for: the client that reads is a sink, one that sends a source.",
		[]string{"hop"}, nil)
	waitingDesc = prometheus.NewDesc("towpath_transfers_waiting",
		"Transfers by the hop they wait for now: those that move change it all the time.", []string{"hop"}, nil)
	conditionDesc = prometheus.NewDesc("towpath_transfers_condition",
		"Transfers by what the watchdog says about them: moving, blocked, idle or stalled.", []string{"condition"}, nil)
)

// Describe is for prometheus.
func (a *Accounts) Describe(ch chan<- *prometheus.Desc) {
	ch <- blockedDesc
	ch <- askedDesc
	ch <- waitingDesc
	ch <- conditionDesc
}

// Collect is for prometheus. Nothing is summed up before somebody asks, so that transfers do not meet at a counter.
func (a *Accounts) Collect(ch chan<- prometheus.Metric) {
	a.mu.Lock()
	now, spent, asked, waiting, conditions := time.Now(), a.past, a.asked, [hops]int{}, map[Condition]int{}
	for _, one := range a.flows {
		one.mu.Lock()
		add(&spent, one.waited(now))
		add(&asked, one.asked)
		for r := range one.requests {
			r.mu.Lock()
			add(&asked, r.waited(now))
			r.mu.Unlock()
		}
		if one.runs {
			waiting[one.owner()]++
			condition, _ := one.condition(now)
			conditions[condition]++
		}
		one.mu.Unlock()
	}
	a.mu.Unlock()
	for i, h := range Hops() {
		ch <- prometheus.MustNewConstMetric(blockedDesc, prometheus.CounterValue, spent[i].Seconds(), string(h))
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(waiting[i]), string(h))
		if hop(i) <= atLimit {
			ch <- prometheus.MustNewConstMetric(askedDesc, prometheus.CounterValue, asked[i].Seconds(), string(h))
		}
	}
	for _, c := range []Condition{Moving, Blocked, Idle, Stalled} {
		ch <- prometheus.MustNewConstMetric(conditionDesc, prometheus.GaugeValue, float64(conditions[c]), string(c))
	}
}

func add(sum *[hops]time.Duration, more [hops]time.Duration) {
	for h, d := range more {
		sum[h] += d
	}
}

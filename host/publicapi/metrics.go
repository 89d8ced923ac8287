package publicapi

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the public API does.
type metrics struct {
	requests *prometheus.CounterVec // by operation and code; code "cut" for an answer that was broken off
	inFlight *prometheus.GaugeVec   // by operation
	cut      *prometheus.CounterVec // by operation and reason
	renewals *prometheus.CounterVec // by outcome
	bytesIn  prometheus.Counter
	bytesRes prometheus.Counter // that came on response channels
	bytesOut prometheus.Counter
	pulled   prometheus.Counter // of requests: most are of this kind
	pulling  prometheus.Gauge   // of inFlight, likewise
}

// newMetrics registers the metrics with r, if that is not nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "towpath_public_bytes_total", Help: "Bytes of bodies that counterparties sent (in; response: on response channels) and were sent (out).",
	}, []string{"direction"})
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towpath_public_requests_total", Help: "Requests of counterparties, by operation and status code.",
		}, []string{"operation", "code"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "towpath_public_requests_in_flight", Help: "Requests of counterparties that run now.",
		}, []string{"operation"}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towpath_public_cut_total", Help: "Answers broken off so that no client takes half for whole, by reason.",
		}, []string{"operation", "reason"}),
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towpath_public_renewals_total",
			Help: "Renewals that counterparties asked for, by outcome: renewed, repeated (a lost answer given again), reused (all tokens revoked), or the error answered.",
		}, []string{"outcome"}),
		bytesIn: bytes.WithLabelValues("in"), bytesOut: bytes.WithLabelValues("out"), bytesRes: bytes.WithLabelValues("response"),
	}
	m.pulling = m.inFlight.WithLabelValues(string(pullFlow))
	m.pulled = m.requests.WithLabelValues(string(pullFlow), strconv.Itoa(http.StatusOK))
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{bytes, m.requests, m.inFlight, m.cut, m.renewals} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) sent(n int) { m.bytesOut.Add(float64(n)) }

func (m *metrics) received(o operation, n int) {
	if o.responds() {
		m.bytesRes.Add(float64(n))
		return
	}
	m.bytesIn.Add(float64(n))
}

func (m *metrics) renewal(outcome string) { m.renewals.WithLabelValues(outcome).Inc() }

func (m *metrics) running(o operation) prometheus.Gauge {
	if o == pullFlow {
		return m.pulling
	}
	return m.inFlight.WithLabelValues(string(o))
}

func (m *metrics) answered(o operation, status int) {
	if o == pullFlow && status == http.StatusOK {
		m.pulled.Inc()
		return
	}
	m.requests.WithLabelValues(string(o), strconv.Itoa(status)).Inc()
}

func (m *metrics) brokenOff(o operation, reason string) {
	m.requests.WithLabelValues(string(o), "cut").Inc()
	m.cut.WithLabelValues(string(o), reason).Inc()
}

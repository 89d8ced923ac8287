package signaling

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// signalMetrics count what a Handler takes.
type signalMetrics struct {
	seconds  *prometheus.HistogramVec
	rejected *prometheus.CounterVec
}

func newSignalMetrics(r prometheus.Registerer) signalMetrics {
	return signalMetrics{
		seconds: register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "towpath_signal_seconds", Help: "Time from a signal's arrival to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"operation", "code"})),
		rejected: register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towpath_signals_rejected_total", Help: "Signals that were answered with a problem.",
		}, []string{"operation", "problem"})),
	}
}

func (m signalMetrics) observe(op operation, a answer, took time.Duration) {
	if op == "" {
		op = "unknown"
	}
	m.seconds.WithLabelValues(string(op), strconv.Itoa(a.code)).Observe(took.Seconds())
	if a.problem != nil {
		m.rejected.WithLabelValues(string(op), a.problem.slug()).Inc()
	}
}

// callbackMetrics count what a Dispatcher sends.
type callbackMetrics struct {
	depth   prometheus.Gauge
	results *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newCallbackMetrics(r prometheus.Registerer) callbackMetrics {
	return callbackMetrics{
		depth: register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "towpath_outbox_depth", Help: "Callbacks that are not delivered yet.",
		})),
		results: register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towpath_callback_attempts_total", Help: "Attempts to deliver a callback, by how they ended: delivered, retried or failed.",
		}, []string{"control_plane", "callback", "result"})),
		seconds: register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "towpath_callback_delivery_seconds", Help: "Time from a callback's entry into the outbox to its delivery.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 12),
		}, []string{"control_plane"})),
	}
}

// settled counts an attempt, and the delivery if it was one.
func (m callbackMetrics) settled(c flow.Callback, now time.Time) {
	result := "retried"
	switch c.Status {
	case flow.CallbackDelivered:
		result = "delivered"
		m.seconds.WithLabelValues(c.ControlPlane).Observe(now.Sub(c.Created).Seconds())
	case flow.CallbackFailed:
		result = "failed"
	}
	m.results.WithLabelValues(c.ControlPlane, string(c.Kind), result).Inc()
}

// register returns c, or the collector of that name that r has already. Two different ones under a name are a mistake in the program.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	err := r.Register(c)
	var before prometheus.AlreadyRegisteredError
	switch {
	case err == nil:
		return c
	case errors.As(err, &before):
		return before.ExistingCollector.(C)
	default:
		panic(err)
	}
}

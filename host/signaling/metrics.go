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
	failing *prometheus.GaugeVec
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
		failing: register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "towpath_callback_failing_age_seconds",
			Help: "Age of the callback that was tried last if it has to be tried again; 0 if a control plane takes what it is sent.",
		}, []string{"control_plane"})),
	}
}

// settled counts an attempt, and the delivery if it was one.
func (m callbackMetrics) settled(c flow.Callback, now time.Time) {
	result, age := "retried", now.Sub(c.Created).Seconds()
	failing := age
	switch c.Status {
	case flow.CallbackDelivered:
		result, failing = "delivered", 0
		m.seconds.WithLabelValues(c.ControlPlane).Observe(age)
	case flow.CallbackFailed:
		result, failing = "failed", 0
	}
	m.failing.WithLabelValues(c.ControlPlane).Set(failing)
	m.results.WithLabelValues(c.ControlPlane, string(c.Kind), result).Inc()
}

// forget drops what is kept of a control plane that has left.
func (m callbackMetrics) forget(controlPlane string) {
	of := prometheus.Labels{"control_plane": controlPlane}
	m.results.DeletePartialMatch(of)
	m.seconds.DeletePartialMatch(of)
	m.failing.DeletePartialMatch(of)
}

// registrationMetrics count the registrations of this data plane.
type registrationMetrics struct {
	registered *prometheus.GaugeVec
	attempts   *prometheus.CounterVec
}

func newRegistrationMetrics(r prometheus.Registerer) registrationMetrics {
	return registrationMetrics{
		registered: register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "towpath_registered", Help: "1 if this data plane is registered at a control plane with its present profiles, otherwise 0.",
		}, []string{"control_plane"})),
		attempts: register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towpath_registration_attempts_total", Help: "Attempts to register or deregister this data plane, by how they ended: done or failed.",
		}, []string{"control_plane", "operation", "result"})),
	}
}

func (m registrationMetrics) attempted(controlPlane string, op operation, failed *failure) {
	result := "done"
	if failed != nil {
		result = "failed"
	}
	m.attempts.WithLabelValues(controlPlane, string(op), result).Inc()
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

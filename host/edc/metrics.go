package edc

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what a Handler takes. They are those of Data Plane Signaling: a signal is a signal.
type metrics struct {
	seconds  *prometheus.HistogramVec
	rejected *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) metrics {
	return metrics{
		seconds: register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "towpath_signal_seconds", Help: "Time from a signal's arrival to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"operation", "code"})),
		rejected: register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towpath_signals_rejected_total", Help: "Signals that were answered with a problem.",
		}, []string{"operation", "problem"})),
	}
}

func (m metrics) observe(op operation, a answer, took time.Duration) {
	if op == "" {
		op = "unknown"
	}
	m.seconds.WithLabelValues(string(op), strconv.Itoa(a.code)).Observe(took.Seconds())
	if a.problem != nil {
		m.rejected.WithLabelValues(string(op), a.problem.slug).Inc()
	}
}

// register returns c, or the collector of that name that r has already.
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

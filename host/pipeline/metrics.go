package pipeline

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what all transfers of a host do. A nil *Metrics counts nothing.
type Metrics struct {
	bytes, frames, recordCount, parts prometheus.Counter
	copied                            prometheus.Counter
	blockedSinks                      prometheus.Gauge
	running                           prometheus.Gauge
	storing                           prometheus.Histogram
	retries                           prometheus.Counter
}

// NewMetrics registers the metrics of transfers.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		bytes:       counter("towpath_transfer_bytes_total", "Bytes of payload that transfers have moved."),
		frames:      counter("towpath_transfer_frames_total", "Frames of payload that transfers have moved."),
		recordCount: counter("towpath_transfer_records_total", "Records that transfers have moved."),
		copied:      counter("towpath_transfer_copied_bytes_total", "Bytes that stores have copied inside themselves, for transfers of theirs."),
		parts:       counter("towpath_transfer_parts_total", "Parts that transfers have made durable."),
		blockedSinks: prometheus.NewGauge(prometheus.GaugeOpts{Name: "towpath_transfer_blocked_sinks",
			Help: "Sinks that say they wait for something outside."}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "towpath_transfers_running", Help: "Transfers that run now."}),
		storing: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "towpath_transfer_checkpoint_seconds",
			Help: "Time to store a transfer's place.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}),
		retries: counter("towpath_transfer_retries_total", "Attempts of transfers after a failure."),
	}
	r.MustRegister(m.bytes, m.frames, m.recordCount, m.copied, m.parts, m.blockedSinks, m.running, m.storing, m.retries)
	return m
}

func (m *Metrics) data(n int) {
	if m != nil {
		m.bytes.Add(float64(n))
		m.frames.Inc()
	}
}

func (m *Metrics) records(n, size int) {
	if m != nil {
		m.recordCount.Add(float64(n))
		m.data(size)
	}
}

func (m *Metrics) copy(n int64) {
	if m != nil {
		m.copied.Add(float64(n))
	}
}

func (m *Metrics) part() {
	if m != nil {
		m.parts.Inc()
	}
}

func (m *Metrics) blocked(now bool) {
	switch {
	case m == nil:
	case now:
		m.blockedSinks.Inc()
	default:
		m.blockedSinks.Dec()
	}
}

func (m *Metrics) stored(d time.Duration) {
	if m != nil {
		m.storing.Observe(d.Seconds())
	}
}

func (m *Metrics) started() {
	if m != nil {
		m.running.Inc()
	}
}

func (m *Metrics) ended() {
	if m != nil {
		m.running.Dec()
	}
}

func (m *Metrics) retried() {
	if m != nil {
		m.retries.Inc()
	}
}

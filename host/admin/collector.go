package admin

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/flow"
)

var flowsDesc = prometheus.NewDesc("towpath_flows", "Data flows by state.", []string{"state"}, nil)

// flowCollector counts flows when metrics are read.
type flowCollector struct {
	store  flow.Store
	logger *slog.Logger
}

func (c flowCollector) Describe(ch chan<- *prometheus.Desc) { ch <- flowsDesc }

func (c flowCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	count, err := c.store.Count(ctx)
	if err != nil {
		c.logger.Error("flows not counted", "err", err)
		ch <- prometheus.NewInvalidMetric(flowsDesc, err)
		return
	}
	for _, s := range flow.States() {
		ch <- prometheus.MustNewConstMetric(flowsDesc, prometheus.GaugeValue, float64(count[s]), string(s))
	}
}

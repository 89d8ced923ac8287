package pluginhost

import "github.com/prometheus/client_golang/prometheus"

// metrics reports what Plugins says, at the moment it is asked.
type metrics struct {
	host     *Host
	state    *prometheus.Desc
	restarts *prometheus.Desc
	flows    *prometheus.Desc
	dropped  *prometheus.Desc
}

var _ prometheus.Collector = (*metrics)(nil)

func newMetrics(h *Host) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("towpath_plugin_"+name, help, append([]string{"plugin"}, labels...), nil)
	}
	return &metrics{
		host:     h,
		state:    desc("state", "1 for the state that the plugin is in, 0 for the others.", "state"),
		restarts: desc("restarts_total", "Times the plugin ended, or could not be launched, and was launched again."),
		flows:    desc("flows", "Streams open on the plugin's process."),
		dropped:  desc("output_lines_dropped_total", "Lines that the plugin printed and that were not logged because there were too many."),
	}
}

// Describe sends the descriptors.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.restarts, m.flows, m.dropped} {
		ch <- d
	}
}

// Collect sends the values for the plugins that are supervised.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.host.supervised() {
		st, in := s.snapshot()
		flows := 0.0
		if in != nil {
			flows = float64(in.flows.Load())
		}
		for _, state := range States() {
			is := 0.0
			if state == st.state {
				is = 1
			}
			ch <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, is, s.Name, string(state))
		}
		ch <- prometheus.MustNewConstMetric(m.restarts, prometheus.CounterValue, float64(st.restarts), s.Name)
		ch <- prometheus.MustNewConstMetric(m.flows, prometheus.GaugeValue, flows, s.Name)
		ch <- prometheus.MustNewConstMetric(m.dropped, prometheus.CounterValue, float64(s.dropped.Load()), s.Name)
	}
}

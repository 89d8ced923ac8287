package pluginhost

import "github.com/prometheus/client_golang/prometheus"

// metrics reports what Plugins says, at the moment it is asked.
type metrics struct {
	host     *Host
	state    *prometheus.Desc
	restarts *prometheus.Desc
	flows    *prometheus.Desc
	dropped  *prometheus.Desc
	launches *prometheus.Desc
	took     *prometheus.Desc
	build    *prometheus.Desc
	resting  *prometheus.Desc
	trial    *prometheus.Desc
	handover *prometheus.Desc
	files    *prometheus.Desc
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
		flows:    desc("flows", "Streams open on the plugin's processes."),
		dropped:  desc("output_lines_dropped_total", "Lines that the plugin printed and that were not logged because there were too many."),
		launches: desc("launches_total", "Processes of the plugin that have become ready."),
		took:     desc("launch_seconds", "What the last launch took, until the plugin was ready."),
		build:    desc("build_info", "1 for the build of the plugin that takes new flows.", "version", "sha256"),
		resting:  desc("resting_builds", "Builds of the plugin that take no new flows and bring theirs to an end."),
		trial:    desc("on_probation", "1 while the build of the plugin that takes new flows has not proved itself, otherwise 0."),
		handover: desc("handovers_total", "Handovers from one build of the plugin to the next that have ended, by how.", "outcome"),
		files: prometheus.NewDesc("towpath_plugin_files", "Files in the plugin directory, by whether they may be executed.",
			[]string{"status"}, nil),
	}
}

// Describe sends the descriptors.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.restarts, m.flows, m.dropped, m.launches, m.took, m.build, m.resting, m.trial, m.handover,
		m.files} {
		ch <- d
	}
}

// Collect sends the values for the plugins that are in use, or come to rest.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	builds := map[string][]Info{} // by name of plugin
	files := map[Status]int{}
	for _, i := range m.host.Plugins() {
		if i.Generation != "" || i.Address != "" {
			builds[i.Name] = append(builds[i.Name], i)
		}
		if i.Status != StatusRetired && i.Address == "" {
			files[i.Status]++
		}
	}
	for name, of := range builds {
		m.plugin(ch, name, of)
	}
	for name, ended := range m.host.endedHandovers() {
		for _, outcome := range outcomes {
			ch <- prometheus.MustNewConstMetric(m.handover, prometheus.CounterValue, float64(ended[outcome]), name, outcome)
		}
	}
	for status, n := range files {
		ch <- prometheus.MustNewConstMetric(m.files, prometheus.GaugeValue, float64(n), string(status))
	}
}

// plugin sends the values for one plugin. The first of its builds is the one that takes new flows, if one does.
func (m *metrics) plugin(ch chan<- prometheus.Metric, name string, builds []Info) {
	first, flows, resting := builds[0], 0, 0
	for _, b := range builds {
		flows += b.Flows
		if b.Status == StatusRetired {
			resting++
		}
	}
	for _, state := range States() {
		is := 0.0
		if state == first.State {
			is = 1
		}
		ch <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, is, name, string(state))
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, append([]string{name}, labels...)...)
	}
	send(m.restarts, prometheus.CounterValue, float64(first.Restarts))
	send(m.launches, prometheus.CounterValue, float64(first.Launches))
	send(m.dropped, prometheus.CounterValue, float64(first.Dropped))
	send(m.flows, prometheus.GaugeValue, float64(flows))
	send(m.resting, prometheus.GaugeValue, float64(resting))
	if first.Launches > 0 {
		send(m.took, prometheus.GaugeValue, first.LaunchTook.Seconds())
	}
	onTrial := 0.0
	if first.Probation != nil {
		onTrial = 1
	}
	send(m.trial, prometheus.GaugeValue, onTrial)
	if first.Status != StatusRetired {
		send(m.build, prometheus.GaugeValue, 1, first.Version, first.Generation)
	}
}

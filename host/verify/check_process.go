package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/towpath-dataplane/towpath/host/pluginhost"
	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
)

func handshakeLine_(t *trial) error {
	p, err := t.launch(t.ctx, launchOptions{})
	if err != nil {
		return err
	}
	t.own = append(t.own, p)
	if p.line.before > 0 {
		return fmt.Errorf("it printed %d lines on standard output before the one that says where it listens; the first is %.120q",
			p.line.before, p.line.noise)
	}
	if _, err := p.plugin.Describe(t.ctx, &pluginv1.DescribeRequest{HostVersion: t.HostVersion}); err != nil {
		return p.explain(fmt.Errorf("it does not answer where it says that it listens: %w", err))
	}
	if lines, _ := p.stdout.counts(); lines > 0 {
		return fmt.Errorf("it printed %d lines on standard output, as %.120q", lines, p.stdout.last())
	}
	return nil
}

func handshakeCookie(t *trial) error {
	for what, cookie := range map[string]string{"without the cookie": "-", "with a wrong cookie": "warehouse"} {
		if err := t.refusesCookie(what, cookie); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) refusesCookie(what, cookie string) error {
	p, lines, err := t.spawn(launchOptions{cookie: cookie})
	if err != nil {
		return err
	}
	defer p.end()
	if err := p.awaitExit(t.ctx, startTime); err != nil {
		return fmt.Errorf("launched %s: %w", what, err)
	}
	<-p.reaped
	for len(lines) > 0 {
		if line := <-lines; strings.Count(line, "|") >= 4 {
			return fmt.Errorf("launched %s it said where it listens: %.120q", what, line)
		}
	}
	if p.cmd.ProcessState.Success() {
		return fmt.Errorf("launched %s it exited with status 0", what)
	}
	return nil
}

var (
	pluginName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	semantic   = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

func describeAnswers(t *trial) error {
	if t.described != nil {
		return t.described
	}
	d := t.description
	switch {
	case !pluginName.MatchString(d.Name):
		return fmt.Errorf("its name is %q", d.Name)
	case !semantic.MatchString(d.Version):
		return fmt.Errorf("its version is %q", d.Version)
	case len(d.SourceTypes)+len(d.SinkTypes) == 0:
		return errors.New("it has neither a source type nor a sink type")
	}
	for kind, types := range map[string][]*pluginv1.AddressType{"source": d.SourceTypes, "sink": d.SinkTypes} {
		seen := map[string]bool{"": true}
		for _, a := range types {
			if seen[a.Type] {
				return fmt.Errorf("it lists the %s type %q twice, or without a name", kind, a.Type)
			}
			seen[a.Type] = true
		}
	}
	if n := d.GetCapabilities().GetMaxFrameSize(); n > maxData {
		return fmt.Errorf("max_frame_size is %d: no host sends more than %d", n, maxData)
	}
	return nil
}

func describeSame(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	for _, when := range []string{"in another process, once it is configured,", "when it is asked again"} {
		d, err := p.plugin.Describe(t.ctx, &pluginv1.DescribeRequest{HostVersion: "another"})
		if err != nil {
			return p.explain(err)
		}
		if !proto.Equal(d, t.description) {
			return fmt.Errorf("its answer %s is another than before", when)
		}
	}
	return nil
}

func describeServices(t *trial) error {
	p, err := t.plugin()
	if err != nil {
		return err
	}
	for _, typ := range t.description.SourceTypes {
		_, err := p.source.Validate(t.ctx, &pluginv1.ValidateRequest{Address: &pluginv1.DataAddress{Type: typ.Type}})
		if status.Code(err) == codes.Unimplemented {
			return fmt.Errorf("it declares the source type %q and does not serve DataSource.Validate", typ.Type)
		}
	}
	for _, typ := range t.description.SinkTypes {
		_, err := p.sink.Validate(t.ctx, &pluginv1.ValidateRequest{Address: &pluginv1.DataAddress{Type: typ.Type}})
		if status.Code(err) == codes.Unimplemented {
			return fmt.Errorf("it declares the sink type %q and does not serve DataSink.Validate", typ.Type)
		}
	}
	_, err = p.plugin.Health(t.ctx, &pluginv1.HealthRequest{})
	return p.explain(err)
}

func configureAccepts(t *trial) error {
	_, err := t.plugin()
	return err
}

func configureRequired(t *trial) error {
	var required []string
	for _, f := range t.description.GetConfig().GetFields() {
		if f.Required {
			required = append(required, f.Name)
		}
	}
	if len(required) == 0 {
		return skipf("no field of the configuration is required")
	}
	for _, name := range required {
		p, err := t.launch(t.ctx, launchOptions{})
		if err != nil {
			return err
		}
		t.own = append(t.own, p)
		config, err := t.configWithout(name)
		if err != nil {
			return err
		}
		_, err = p.plugin.Configure(t.ctx, &pluginv1.ConfigureRequest{ConfigJson: config, ScratchDir: p.scratch})
		if err := wantRefusal(fmt.Sprintf("a configuration without %q", name), problemOf(err), pluginv1.ErrorCode_ERROR_CODE_INVALID); err != nil {
			return p.explain(err)
		}
	}
	return nil
}

func configureGarbage(t *trial) error {
	p, err := t.launch(t.ctx, launchOptions{})
	if err != nil {
		return err
	}
	t.own = append(t.own, p)
	for _, config := range []string{"{", "[1]", `{"": {"": [null]}}`, "\xff\x00", `{"a":1}{"b":2}`} {
		_, err := p.plugin.Configure(t.ctx, &pluginv1.ConfigureRequest{ConfigJson: []byte(config), ScratchDir: p.scratch})
		if err := problemOf(err); errors.Is(err, errCut) {
			return fmt.Errorf("configured with %q: %w", config, p.explain(err))
		}
	}
	return p.answers(t.ctx)
}

// answers checks that the process still does.
func (p *process) answers(ctx context.Context) error {
	if _, err := p.plugin.Health(ctx, &pluginv1.HealthRequest{}); err != nil {
		return fmt.Errorf("after that Health fails: %w", p.explain(err))
	}
	return nil
}

func healthIdle(t *trial) error {
	p, err := t.plugin()
	if err != nil {
		return err
	}
	return t.awaitFlows(p, 0)
}

// awaitFlows waits until Health counts n flows.
func (t *trial) awaitFlows(p *process, n uint32) error {
	ctx, cancel := context.WithTimeout(t.ctx, hearTime)
	defer cancel()
	var last *pluginv1.HealthResponse
	for {
		h, err := p.plugin.Health(ctx, &pluginv1.HealthRequest{})
		if err == nil {
			last = h
		}
		switch {
		case err != nil && ctx.Err() == nil && status.Code(err) != codes.DeadlineExceeded: // gRPC's clock may be ahead of ctx's
			return fmt.Errorf("health: %w", p.explain(err))
		case err == nil && h.Status != pluginv1.HealthStatus_HEALTH_STATUS_SERVING && h.Status != pluginv1.HealthStatus_HEALTH_STATUS_UNSPECIFIED:
			return fmt.Errorf("its Health says %s: %q", h.Status, h.Message)
		case err == nil && h.Flows == n:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("its Health counts %d flows for %s, and %d are open", last.GetFlows(), hearTime, n)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func processTerm(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	return p.term(t.ctx)
}

// term sends SIGTERM and waits for the end.
func (p *process) term(ctx context.Context) error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.awaitExit(ctx, stopTime); err != nil {
		return fmt.Errorf("after SIGTERM %w", err)
	}
	return nil
}

func processDrain(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	d, err := p.plugin.Drain(t.ctx, &pluginv1.DrainRequest{Deadline: durationpb.New(5 * time.Second)})
	if err != nil {
		return p.explain(err)
	}
	if d.Flows != 0 {
		return fmt.Errorf("no flow runs, and %d are left", d.Flows)
	}
	h, err := p.plugin.Health(t.ctx, &pluginv1.HealthRequest{})
	if err != nil {
		return fmt.Errorf("after Drain, Health: %w", p.explain(err))
	}
	if h.Status != pluginv1.HealthStatus_HEALTH_STATUS_DRAINING {
		return fmt.Errorf("after Drain, Health says %s", h.Status)
	}
	return nil
}

// processChildren looks for what a plugin has left that was launched, used and ended.
func processChildren(t *trial) error {
	if !hasProc() {
		return skipf("this system has no /proc to look for processes in")
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	for _, source := range t.spec.Sources {
		a, err := source.address.fill(values{"flow": flowValue(t.newFlow())})
		if err != nil {
			return err
		}
		if _, err := t.whole(p, a, nil); err != nil {
			return err
		}
	}
	if t.shared != nil {
		t.shared.end()
		t.shared = nil
	}
	if err := p.term(t.ctx); err != nil {
		return err
	}
	deadline := time.Now().Add(2 * time.Second)
	for {
		left := t.marked()
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			names := make([]string, len(left))
			for i, pid := range left {
				command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				names[i] = fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " ")))
				syscall.Kill(pid, syscall.SIGKILL)
			}
			return fmt.Errorf("it has exited and left the processes %s", strings.Join(names, ", "))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func hasProc() bool {
	_, err := os.Stat("/proc/self/environ")
	return err == nil
}

// marked lists the processes that the suite, or what it has launched, has started.
func (s *suite) marked() (pids []int) {
	want := []byte(markVariable + "=" + s.mark + "\x00")
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		environment, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && bytes.Contains(environment, want) && isProcess(pid) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// isProcess says whether there is such a process, and not only what is left of it for its parent.
func isProcess(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state, _, _ := strings.Cut(strings.TrimSpace(string(stat[bytes.LastIndexByte(stat, ')')+1:])), " ")
	return state != "Z"
}

// memory returns the resident bytes of a process.
func memory(pid int) (uint64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}

// hostRuns launches the plugin as towpath serve does.
func hostRuns(t *trial) error {
	config, err := t.config()
	if err != nil {
		return err
	}
	directory, name := filepath.Join(t.root, "plugins"), t.description.Name
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	var log bytes.Buffer
	host, err := pluginhost.New(pluginhost.Options{Directory: directory, Trust: pluginhost.TrustOff, RuntimeDir: filepath.Join(t.root, "run"),
		HostVersion: t.HostVersion, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Plugins: map[string]pluginhost.Settings{name: {Binary: t.binary, Environment: t.added}}})
	if err != nil {
		return err
	}
	run := host.Start(t.ctx, map[string][]byte{name: config})
	if run == nil {
		run = t.readThrough(host)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 2*stopTime)
	defer cancel()
	if err := host.Close(stop); err != nil && run == nil {
		run = fmt.Errorf("stop: %w", err)
	}
	if run != nil && log.Len() > 0 {
		return fmt.Errorf("%w; the host's log: %.2000s", run, log.String())
	}
	return run
}

// readThrough reads each source through a host, and compares.
func (t *trial) readThrough(host *pluginhost.Host) error {
	for _, s := range t.spec.Sources {
		a, err := s.address.fill(values{"flow": flowValue(t.newFlow())})
		if err != nil {
			return err
		}
		want, err := t.reference(a)
		if err != nil {
			return err
		}
		source, err := host.Source(s.Type)
		if err != nil {
			return err
		}
		if err := compare(t.ctx, source, a, want); err != nil {
			return fmt.Errorf("source %s: %w", s.Type, err)
		}
	}
	for _, s := range t.spec.Sinks {
		a, err := s.address.fill(values{"flow": flowValue(t.newFlow())})
		if err != nil {
			return err
		}
		sink, err := host.Sink(s.Type)
		if err != nil {
			return err
		}
		if err := sink.Validate(t.ctx, a); err != nil {
			return fmt.Errorf("sink %s: %w", s.Type, err)
		}
	}
	return nil
}

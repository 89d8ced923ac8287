package pluginhost

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// program is what is needed to launch a plugin, any number of times.
type program struct {
	Candidate
	image    string // the copy that is executed
	settings Settings
	dropped  *atomic.Int64 // lines of output
	clear    *atomic.Bool  // an earlier launch has shown that mutual TLS is not for this plugin
	// declared is what the plugin says it needs, once that is known.
	declared *atomic.Pointer[sdk.Permissions]
}

// launcher launches processes.
type launcher struct {
	dir         *runDir
	spawner     *spawner
	confiner    *confine.Confiner
	identity    *identity
	hostVersion string
	laneAfter   int64 // see grpcplugin.LaneOptions
	log         *slog.Logger
}

// errSlow is the cause of contexts that ended because a plugin took too long to start.
var errSlow = errors.New("it was not ready within its start timeout")

// secure says whether the gRPC connection is to be under mutual TLS.
func (p program) secure() bool {
	switch p.settings.MTLS {
	case MTLSOn:
		return true
	case MTLSAuto:
		return p.settings.Lane != LaneGRPC && grpcplugin.LaneSupported && !p.clear.Load()
	}
	return false
}

// launch starts a process, waits until it says where it listens, and asks it to describe itself. One that then says for the first time
// what it needs of the machine is launched again, confined to that, unless it is so already. The error is an *Error; nothing is left of
// the process then.
func (l *launcher) launch(ctx context.Context, p program) (*instance, error) {
	if p.dialled() {
		return l.dial(ctx, p)
	}
	in, err := l.launchSecure(ctx, p)
	if err != nil || in.description.Permissions == nil || !p.declared.CompareAndSwap(nil, in.description.Permissions) {
		return in, err
	}
	policy, err := p.policy()
	if err != nil || policy.Equal(in.policy) {
		return in, err
	}
	if err := in.end("it is launched again, confined to what it says it needs"); err != nil {
		return nil, &Error{Plugin: p.Name, Doing: "launch", Err: err}
	}
	return l.launchSecure(ctx, p)
}

// launchSecure launches a process. Under MTLSAuto a plugin that turns out to be no good for mutual TLS is launched again without, now and
// from then on.
func (l *launcher) launchSecure(ctx context.Context, p program) (*instance, error) {
	in, err := l.launchOnce(ctx, p)
	if p.settings.MTLS != MTLSAuto || !p.secure() {
		return in, err
	}
	switch {
	case errors.Is(err, errNoCertificate):
	case err == nil && !in.rpc.SpeaksLane():
		if err := in.end("it is launched again without TLS: it has no other lane than gRPC"); err != nil {
			return nil, &Error{Plugin: p.Name, Doing: "launch", Err: err}
		}
	default:
		return in, err
	}
	p.clear.Store(true)
	return l.launchOnce(ctx, p)
}

func (l *launcher) launchOnce(ctx context.Context, p program) (*instance, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.settings.StartTimeout, errSlow)
	defer cancel()
	in, err := l.connect(ctx, p)
	if err != nil {
		return nil, err
	}
	in.description, err = in.rpc.Describe(ctx, l.hostVersion)
	if err != nil {
		return nil, in.fail(ctx, "describe", err)
	}
	if err := checkDescription(p.Name, in.description); err != nil {
		return nil, in.fail(ctx, "describe", finally(err))
	}
	if err := in.offerLanes(l.laneAfter); err != nil {
		return nil, in.fail(ctx, "launch", err)
	}
	return in, nil
}

// offerLanes makes the flows of the process use a lane besides gRPC, if it speaks one.
func (in *instance) offerLanes(after int64) (err error) {
	if in.settings.Lane == LaneGRPC {
		return nil
	}
	in.stopLanes, err = in.rpc.OfferLanes(filepath.Join(in.folder, laneSocket),
		grpcplugin.LaneOptions{Buffer: in.settings.LaneBuffer, After: after})
	return err
}

// laneSocket is the name of the socket on which the host waits for lanes.
const laneSocket = "lanes"

// checkDescription says what a host cannot accept in a plugin's account of itself.
func checkDescription(name string, d sdk.Description) error {
	if d.Name != name {
		return fmt.Errorf("it calls itself %q, not %q", d.Name, name)
	}
	if d.Permissions != nil {
		if err := d.Permissions.Check(); err != nil {
			return fmt.Errorf("its permissions: %w", err)
		}
	}
	for kind, types := range map[string][]sdk.AddressType{"source": d.Sources, "sink": d.Sinks} {
		seen := map[string]bool{"": true}
		for _, t := range types {
			if seen[t.Type] {
				return fmt.Errorf("it lists the %s type %q twice, or without a name", kind, t.Type)
			}
			seen[t.Type] = true
		}
	}
	return nil
}

// connect starts a process and connects to it. When ctx ends first, the process is killed, and with it whatever go-plugin, which has
// no deadlines of its own for most of this, waits for.
func (l *launcher) connect(ctx context.Context, p program) (*instance, error) {
	policy, err := p.policy()
	if err != nil {
		return nil, &Error{Plugin: p.Name, Doing: "launch", Err: err, Final: true}
	}
	folder, scratch, err := l.dir.launch()
	if err != nil {
		return nil, &Error{Plugin: p.Name, Doing: "launch", Err: err}
	}
	in := &instance{program: p, folder: folder, scratch: scratch, policy: policy, out: newOutput(l.log.With("plugin", p.Name), p.dropped)}
	in.hs = newHandshake(in.out, p.secure())
	launch := &launchRunner{ctx: ctx, instance: in, spawner: l.spawner, confiner: l.confiner, identity: l.identity,
		inTime: func() bool { return true }}
	in.client = plugin.NewClient(launch.clientConfig())
	err = in.dispense()
	if err == nil && !launch.inTime() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, in.fail(ctx, "launch", cmp.Or(launch.refusal, in.handshakeError(), err))
	}
	return in, nil
}

var errNoHandshake = errors.New("it did not say where it listens")

// handshakeError is what went wrong before go-plugin could connect, in better words than it has.
func (in *instance) handshakeError() error {
	if in.process == nil {
		return nil
	}
	done, err := in.hs.result()
	if !done {
		return errNoHandshake
	}
	return err
}

func (in *instance) dispense() error {
	protocol, err := in.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(grpcplugin.Name)
	if err != nil {
		return err
	}
	rpc, ok := raw.(client)
	if !ok {
		return fmt.Errorf("dispensed a %T", raw)
	}
	in.rpc = rpc
	return nil
}

// rememberConnection notes the connection that go-plugin makes. It opens a stream as soon as it has one, and forgets to close the
// connection if that fails.
func (in *instance) rememberConnection(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	in.mu.Lock()
	in.conn = cc
	in.mu.Unlock()
	return streamer(ctx, desc, cc, method, opts...)
}

// launchRunner is how go-plugin starts a process.
type launchRunner struct {
	ctx      context.Context // of the launch
	instance *instance
	spawner  *spawner
	confiner *confine.Confiner
	identity *identity
	cmd      *exec.Cmd
	refusal  error       // why the plugin could not be executed, confined as it has to be
	inTime   func() bool // says whether the launch did not run out of time, and ends the watch on ctx
}

var _ runner.Runner = (*launchRunner)(nil)

// clientConfig is for one launch: go-plugin can use neither a client nor its configuration twice.
func (r *launchRunner) clientConfig() *plugin.ClientConfig {
	in := r.instance
	options, secured := grpcplugin.DialOptions(), (*tls.Config)(nil)
	if in.hs.secure {
		options, secured = grpcplugin.SecureDialOptions(), r.identity.config()
	}
	return &plugin.ClientConfig{
		TLSConfig:        secured,
		HandshakeConfig:  grpcplugin.Handshake,
		VersionedPlugins: grpcplugin.Versions(),
		RunnerFunc:       r.prepare,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		GRPCDialOptions:  append(options, grpc.WithChainStreamInterceptor(in.rememberConnection)),
		SkipHostEnv:      true,
		StartTimeout:     in.settings.StartTimeout,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: in.folder},
		SyncStdout:       in.out.splitter("stdout"),
		SyncStderr:       in.out.splitter("stderr"),
		// Whatever go-plugin has to say the host says itself, and at this level its parser of plugin output, which panics for some
		// lines, is never run.
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Off, Output: io.Discard}),
	}
}

// prepare takes go-plugin's part of the environment.
func (r *launchRunner) prepare(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
	in := r.instance
	r.cmd = exec.Command(in.image)
	r.cmd.Args[0] = in.Path
	r.cmd.Dir = in.scratch
	r.cmd.Env = environment(os.Environ(), in.settings, in.policy, in.scratch)
	r.cmd.Env = append(r.cmd.Env, cmd.Env...)
	if in.hs.secure {
		r.cmd.Env = append(r.cmd.Env, clientCertEnv+"="+r.identity.pem)
	}
	r.cmd.Env = append(r.cmd.Env, plugin.EnvUnixSocketDir+"="+in.folder)
	var err error
	in.confined, err = r.confiner.Prepare(r.cmd, in.Name, in.policy, confine.Places{Image: in.image, Folder: in.folder}, in.complain())
	return r, err
}

// Start starts the process, and has it killed should the launch's context end.
func (r *launchRunner) Start(context.Context) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	p, err := startProcess(r.spawner, r.cmd, r.instance.out, r.instance.hs)
	if err == nil {
		r.instance.process = p
		r.inTime = context.AfterFunc(r.ctx, func() { p.kill(context.Cause(r.ctx).Error()) })
		err = explainExecution(r.instance.confined.Started(r.ctx))
		r.refusal = err
		return err
	}
	return explainExecution(err)
}

// explainExecution says of an error whether the system will never execute the file.
func explainExecution(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return finally(fmt.Errorf("%w (is the runtime directory on a file system mounted noexec?)", err))
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOEXEC):
		return finally(err)
	}
	return err
}

// policy is what the plugin is to be kept to, as far as is known.
func (p program) policy() (confine.Policy, error) {
	return confine.NewPolicy(p.declared.Load(), p.settings.Allowed)
}

// maxComplaints is how many attempts of a process to do what it must not are logged.
const maxComplaints = 20

// complain returns what logs an attempt of the process to do what it must not, each kind once.
func (in *instance) complain() func(what string) {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(what string) {
		mu.Lock()
		defer mu.Unlock()
		if !seen[what] && len(seen) < maxComplaints {
			seen[what] = true
			in.out.log.Warn("plugin was kept from what it is not allowed", "attempt", what)
		}
	}
}

func (r *launchRunner) Wait(context.Context) error {
	<-r.instance.process.exited
	return nil
}

// Kill does nothing: only instance ends its process, step by step. What waits for the process ends when that is done.
func (r *launchRunner) Kill(context.Context) error { return nil }

func (r *launchRunner) Stdout() io.ReadCloser { return r.instance.hs.forPlugin }

// Stderr is empty: the host reads it itself.
func (r *launchRunner) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

func (r *launchRunner) Name() string { return r.instance.Path }

func (r *launchRunner) ID() string {
	if r.instance.process == nil {
		return ""
	}
	return strconv.Itoa(r.instance.process.pid)
}

func (r *launchRunner) Diagnose(context.Context) string { return "" }

func (r *launchRunner) PluginToHost(network, address string) (string, string, error) {
	return network, address, checkSocket(network, address, r.instance.folder)
}

func (r *launchRunner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// passed are the variables of the host's environment that every plugin gets, besides LC_*.
var passed = []string{"PATH", "HOME", "TZ", "LANG", "GOTRACEBACK", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// environment is what a plugin gets to see of the host's, and what its settings add.
func environment(host []string, s Settings, p confine.Policy, scratch string) []string {
	vars := map[string]string{}
	for _, entry := range host {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "LC_") || slices.Contains(passed, name) || slices.Contains(s.PassEnvironment, name) ||
			slices.Contains(p.Environment(), name) {
			vars[name] = value
		}
	}
	if p.Memory > 0 {
		// A plugin in Go collects its garbage before it meets the limit.
		vars["GOMEMLIMIT"] = strconv.FormatInt(p.Memory/4*3, 10)
	}
	vars["TMPDIR"] = scratch
	maps.Copy(vars, s.Environment)
	env := make([]string, 0, len(vars))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, name+"="+vars[name])
	}
	return env
}

// Package pluginhost finds the plugins that an operator allows, launches a process for each, keeps it running, and hands out its
// sources and sinks by type of data address.
//
// A plugin is a program of someone else's. The package expects it to crash, to freeze, to print what it likes where it likes, and to
// leave children behind; none of that stops the host or another plugin, and every wait for a plugin has a bound. It does not
// expect malice that an operating system user could carry out anyway: a plugin runs as the host's user, though confined, if its settings or
// it itself say to what.
//
// The package knows nothing of flows, control planes or configuration files.
package pluginhost

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Options say what a Host works with. They are not changed once New has them.
type Options struct {
	// Directory with the files of plugins, called towpath-plugin-<name> or just <name>. "": only plugins whose Settings have an
	// absolute Binary.
	Directory string
	// Trust is the policy on which files are executed. "": TrustPinned.
	Trust Trust
	// Publishers are the minisign public keys of those whose signatures count, by name.
	Publishers map[string]string
	// Decisions returns what someone has decided about the plugin of a name, for TrustAsk. It may be called concurrently. nil: nothing.
	Decisions func(name string) (Decision, bool, error)
	// Plugins holds the operator's settings by name of plugin. Plugins without settings are used if Trust allows it.
	Plugins map[string]Settings
	// RuntimeDir is a folder for sockets, scratch files and copies of binaries. Its path has to be short, because those of unix sockets
	// have to be; it is made if it does not exist, for the host's user alone; the file system has to allow execution. Several hosts can
	// share it. "": a folder in os.TempDir.
	RuntimeDir string
	// HostVersion is told to plugins.
	HostVersion string
	// Logger takes the host's own records and those of the plugins. nil: none.
	Logger *slog.Logger
	// Registerer takes the metrics. nil: none.
	Registerer prometheus.Registerer
	// Cache keeps what plugins say of themselves, by the digests of their files, so that a plugin that was described before is launched
	// only when a call needs it. nil: nothing is kept, and all plugins are launched by Start.
	Cache Cache
	// Keep is a folder for builds of plugins that can be gone back to after the next start, while those that followed them have not proved
	// themselves. It is made when it is needed, for the host's user alone. "": none are kept.
	Keep string
	// Watch says that Watch will be called: a plugin whose file is missing may come.
	Watch bool
	// Wait says that plugins which are dialled and cannot be reached may come later: Descriptions leaves them out.
	Wait bool
	// Configure gives the configuration of a plugin that comes after Start: a JSON object, see sdk.Config. The error says why there is
	// none; the plugin is not used then. nil: it is what Start was given. It may be called concurrently.
	Configure func(d sdk.Description) ([]byte, error)
	// Changed is called when other types are offered than before. It must neither block nor call the Host. nil: nobody is told.
	Changed func()
}

// Settings are what an operator says about one plugin.
type Settings struct {
	// Address, if not "", is where the plugin is dialled in place of being launched, see sdk.ListenAddress: it lives by itself, and comes and
	// goes by itself. Besides, it has StartTimeout, DrainTimeout, ServerSideCopy and, over TCP, TLS; all else is for plugins that are launched.
	Address string
	TLS     *DialTLS
	// Binary is a file name in the directory, or an absolute path. "": the name with "towpath-plugin-" before it or, if there is no such
	// file, the name.
	Binary string
	// SHA256 is the digest that the file must have, in hexadecimal digits. "": none.
	SHA256 string
	// Publisher is who must have signed the file. "": anyone, if the policy asks for a signature at all.
	Publisher string
	// Allowed is what the plugin may do; it is kept to what it declares as well.
	Allowed confine.Allowed
	// Environment is added to the plugin's environment.
	Environment map[string]string
	// PassEnvironment names variables of the host's environment that the plugin gets, besides PATH, HOME, TZ, LANG, LC_*, GOTRACEBACK,
	// SSL_CERT_FILE and SSL_CERT_DIR.
	PassEnvironment []string
	// Start says when its process is launched. "": StartOnDemand.
	Start Start
	// StartTimeout bounds the launch up to the plugin's description, and then its configuration. 0: 15 seconds.
	StartTimeout time.Duration
	// DrainTimeout is what flows have to come to rest when the plugin is stopped. 0: 10 seconds.
	DrainTimeout time.Duration
	// DrainBound holds the flows of a plugin whose file was removed or replaced to DrainTimeout too. Otherwise those of one that was removed
	// come to their end, and those of one that was replaced that cannot go on elsewhere go on for as long as they move.
	DrainBound bool
	// HandoverTimeout is how long flows may wait for the file that has replaced another to move data, before the one before is used again.
	// 0: 30 seconds.
	HandoverTimeout time.Duration
	// Lane says how payload travels. "": LaneAuto.
	Lane Lane
	// LaneBuffer is asked of the kernel for each lane, in bytes: more is faster, and is taken by every flow that stalls. 0: 512 KiB.
	LaneBuffer int
	// MTLS says whether the gRPC connection is under mutual TLS. "": MTLSAuto.
	MTLS MTLS
	// ServerSideCopy lets stores copy what goes from one address in them to another, in place of moving it through the plugin and the host.
	ServerSideCopy bool
	// Isolation says which flows share a process. "": IsolationShared.
	Isolation Isolation
	// MaxProcesses bounds the processes beside the one that calls for no flow are made to, and all of them under IsolationShared. Calls
	// that need another wait for one to become free, with bounds. 0: 32.
	MaxProcesses int
	// QuarantineAfter is the number of crashes within ten minutes, without a minute of steady run in between, that put the plugin into
	// quarantine; crashes while it is launched count half. 0: 5. Less than 0: none do, and no flow is
	// suspected of them either.
	QuarantineAfter int
	// StopTimeout is what the process has to end after that, and once more after a SIGTERM, before it is killed. 0: 5 seconds.
	StopTimeout time.Duration
}

// Start says when a plugin's process is launched.
type Start string

// The times of launch. A plugin that has not been described before is launched at once in any case: it has to be, and that shows whether it
// takes its configuration.
const (
	StartOnDemand Start = "on-demand" // with the first call that needs it
	StartAlways   Start = "always"    // at once
)

// Lane says how payload travels between the host and a plugin.
type Lane string

// The lanes. Every plugin speaks gRPC.
const (
	LaneAuto Lane = "auto" // by a descriptor for each flow, where the system and the plugin can do that, otherwise gRPC
	LaneGRPC Lane = "grpc"
)

// MTLS says whether a plugin's gRPC connection is under mutual TLS.
type MTLS string

// The settings of mutual TLS. It costs a tenth of a second at launch, and more than half of the speed of payload on gRPC.
const (
	MTLSAuto MTLS = "auto" // where the plugin can do it, and payload travels beside gRPC
	MTLSOn   MTLS = "on"   // a plugin that cannot do it is not used
	MTLSOff  MTLS = "off"
)

// Host owns the plugin processes. All methods may be called concurrently.
type Host struct {
	options  Options
	pace     pace
	log      *slog.Logger
	launcher *launcher
	metrics  *metrics

	publishers publishers

	closing   context.Context // ends when Close is called
	endOneOff context.CancelFunc
	closeOnce sync.Once
	closeErr  error

	digests     digests
	looking     sync.Mutex // held while the plugin directory is compared with what is in use
	lookout     lookout
	remembering sync.Mutex     // guards news, and changes of what the cache has for a digest
	news        map[build]bool // what this host was the first to describe

	mu         sync.Mutex // guards the rest
	started    bool
	closed     bool
	oneOffs    sync.WaitGroup // processes that Describe launched, and whatever else ends by itself
	configs    map[string][]byte
	candidates []Candidate
	plugins    map[string]*generation    // that take new flows, by name of plugin
	coming     map[string]*generation    // that are to follow those, by name of plugin
	retiring   map[*generation]bool      // that take no new flow
	routes     map[offering]*generation  // to one of plugins
	missed     map[offering]string       // why a type that was offered is not
	withdrawn  map[string]bool           // plugins that were in use, by name
	rollbacks  map[string]Rollback       // by name: why its file is not used
	handovers  map[string]map[string]int // how often handovers ended how, by name and outcome
	standings  map[build]*standing       // what is to be kept of builds that have followed others
	version    int                       // counts the changes of routes
	offered    chan struct{}             // closed, and made anew, when routes change
}

// New returns a Host that has looked for plugins and executed none. It has to be closed.
func New(o Options) (*Host, error) { return newHost(o, defaultPace) }

func newHost(o Options, p pace) (*Host, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	h := &Host{options: o, pace: p, log: o.Logger, plugins: map[string]*generation{}, coming: map[string]*generation{},
		retiring: map[*generation]bool{}, routes: map[offering]*generation{}, missed: map[offering]string{}, withdrawn: map[string]bool{},
		rollbacks: map[string]Rollback{}, handovers: map[string]map[string]int{}, standings: map[build]*standing{}, offered: make(chan struct{}),
		lookout: newLookout(), news: map[build]bool{}, digests: digests{known: map[string]digested{}}}
	h.closing, h.endOneOff = context.WithCancel(context.Background())
	var err error
	if h.publishers, err = newPublishers(o.Publishers); err != nil {
		return nil, err
	}
	if h.candidates, err = h.Discover(); err != nil {
		return nil, err
	}
	identity, err := newIdentity()
	if err != nil {
		return nil, err
	}
	dir, err := openRunDir(o.RuntimeDir)
	if err != nil {
		return nil, err
	}
	h.metrics = newMetrics(h)
	if o.Registerer != nil {
		if err := o.Registerer.Register(h.metrics); err != nil {
			return nil, errors.Join(fmt.Errorf("register metrics of plugins: %w", err), dir.close())
		}
	}
	h.launcher = &launcher{dir: dir, identity: identity, spawner: newSpawner(), confiner: confine.New(o.limited()), hostVersion: o.HostVersion,
		log: o.Logger}
	return h, nil
}

// complete fills in defaults, and says what cannot be used.
func (o *Options) complete() error {
	o.Trust = cmp.Or(o.Trust, TrustPinned)
	o.RuntimeDir = cmp.Or(o.RuntimeDir, filepath.Join(os.TempDir(), fmt.Sprintf("towpath-%d", os.Geteuid())))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if !o.Trust.valid() {
		return fmt.Errorf("trust %q is not one of %s, %s, %s, %s, %s", o.Trust, TrustPinned, TrustSigned, TrustDirectory, TrustAsk, TrustOff)
	}
	if o.Decisions == nil {
		o.Decisions = func(string) (Decision, bool, error) { return Decision{}, false, nil }
	}
	if o.Trust == TrustSigned && len(o.Publishers) == 0 {
		return fmt.Errorf("trust is %q, and there are no publishers", o.Trust)
	}
	if o.Directory != "" {
		var err error
		if o.Directory, err = filepath.Abs(o.Directory); err != nil {
			return fmt.Errorf("plugin directory: %w", err)
		}
	}
	o.Plugins = maps.Clone(o.Plugins)
	for name, s := range o.Plugins {
		if !validName.MatchString(name) {
			return fmt.Errorf("%q is not a name for a plugin: lower-case letters, digits, '-'", name)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("plugin %s: %w", name, err)
		}
		if _, ok := o.Publishers[s.Publisher]; s.Publisher != "" && !ok {
			return fmt.Errorf("plugin %s: there is no publisher %q", name, s.Publisher)
		}
		o.Plugins[name] = s.withDefaults()
	}
	return nil
}

// limited reports whether any plugin has limits that a control group enforces.
func (o Options) limited() bool {
	for _, s := range o.Plugins {
		if l := s.Allowed.Limits; l.Memory > 0 || l.CPU > 0 || l.Processes > 0 {
			return true
		}
	}
	return false
}

func (s Settings) check() error {
	if s.Address != "" {
		if err := s.checkDialled(); err != nil {
			return err
		}
	} else if s.TLS != nil {
		return errors.New("TLS is for a plugin that is dialled over TCP")
	}
	if digest, err := hex.DecodeString(s.SHA256); s.SHA256 != "" && (err != nil || len(digest) != 32) {
		return fmt.Errorf("%q is not a sha256: 64 hexadecimal digits", s.SHA256)
	}
	if s.Binary != "" && !filepath.IsAbs(s.Binary) && s.Binary != filepath.Base(s.Binary) {
		return fmt.Errorf("binary %q is neither a file name nor an absolute path", s.Binary)
	}
	if times := []Start{"", StartOnDemand, StartAlways}; !slices.Contains(times, s.Start) {
		return fmt.Errorf("start %q is not one of %q", s.Start, times[1:])
	}
	if lanes := []Lane{"", LaneAuto, LaneGRPC}; !slices.Contains(lanes, s.Lane) {
		return fmt.Errorf("lane %q is not one of %q", s.Lane, lanes[1:])
	}
	if settings := []MTLS{"", MTLSAuto, MTLSOn, MTLSOff}; !slices.Contains(settings, s.MTLS) {
		return fmt.Errorf("mtls %q is not one of %q", s.MTLS, settings[1:])
	}
	if kinds := []Isolation{"", IsolationShared, IsolationFlow, IsolationParticipant}; !slices.Contains(kinds, s.Isolation) {
		return fmt.Errorf("isolation %q is not one of %q", s.Isolation, kinds[1:])
	}
	if s.MaxProcesses < 0 {
		return fmt.Errorf("max processes %d is negative", s.MaxProcesses)
	}
	if s.LaneBuffer < 0 {
		return fmt.Errorf("lane buffer %d is negative", s.LaneBuffer)
	}
	if _, err := confine.NewPolicy(nil, s.Allowed); err != nil {
		return err
	}
	for _, d := range []time.Duration{s.StartTimeout, s.DrainTimeout, s.StopTimeout, s.HandoverTimeout} {
		if d < 0 {
			return fmt.Errorf("timeout %s is negative", d)
		}
	}
	return nil
}

func (s Settings) withDefaults() Settings {
	s.StartTimeout = cmp.Or(s.StartTimeout, 15*time.Second)
	s.DrainTimeout = cmp.Or(s.DrainTimeout, 10*time.Second)
	s.StopTimeout = cmp.Or(s.StopTimeout, 5*time.Second)
	s.HandoverTimeout = cmp.Or(s.HandoverTimeout, 30*time.Second)
	s.Start = cmp.Or(s.Start, StartOnDemand)
	s.Isolation, s.MaxProcesses = cmp.Or(s.Isolation, IsolationShared), cmp.Or(s.MaxProcesses, defaultMaxProcesses)
	s.QuarantineAfter = cmp.Or(s.QuarantineAfter, defaultQuarantineAfter)
	if s.Address != "" {
		s.QuarantineAfter = -1 // whoever runs it has to see to its crashes
	}
	s.Lane, s.MTLS = cmp.Or(s.Lane, LaneAuto), cmp.Or(s.MTLS, MTLSAuto)
	return s
}

// Start takes every plugin that may be executed into use, with its configuration from configs (a JSON object by name of plugin, see
// sdk.Config). Those that were described before are launched when they are needed, unless their settings say otherwise; the others are
// launched now, and Start returns when each of them has become ready or has failed once. It is called once.
//
// The error joins the failures of the plugins that have Settings, among them those whose file is refused or missing, unless Awaits says that
// they are waited for, but not those that are dialled, which can come at any time; other plugins' failures are logged. In either case the
// plugins that are ready can be used, and those whose failure can pass are
// launched again; a caller who does not want that closes the Host.
func (h *Host) Start(ctx context.Context, configs map[string][]byte) error {
	candidates, err := h.Discover()
	if err != nil {
		return err
	}
	h.mu.Lock()
	if h.started || h.closed {
		h.mu.Unlock()
		return errors.New("plugin host: started before, or closed")
	}
	h.started, h.candidates, h.configs = true, candidates, configs
	h.mu.Unlock()
	errs := h.superviseAll(candidates)
	h.sweepKept(candidates)
	for _, s := range h.all() {
		if err := s.settled(ctx); err != nil && h.declared(s.Name) && !s.dialled() {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close stops all plugins at once: each drains, then ends, within its settings and only as long as ctx lasts; what is left is killed.
// When it returns, no process, file or goroutine of the host is left. The error says which plugins did not end well.
func (h *Host) Close(ctx context.Context) error {
	h.closeOnce.Do(func() { h.closeErr = h.close(ctx) })
	return h.closeErr
}

func (h *Host) close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	for _, g := range h.generations() {
		if g.trial != nil {
			g.trial.end()
		}
	}
	h.mu.Unlock()
	h.endOneOff()
	supervisors := h.all()
	errs := make([]error, len(supervisors), len(supervisors)+1)
	var stopped sync.WaitGroup
	for i, s := range supervisors {
		stopped.Go(func() { errs[i] = s.stop(ctx) })
	}
	stopped.Wait()
	h.oneOffs.Wait()
	h.launcher.spawner.close()
	if h.options.Registerer != nil {
		h.options.Registerer.Unregister(h.metrics)
	}
	return errors.Join(append(errs, h.launcher.dir.close())...)
}

// superviseAll takes the candidates into use that can be executed, and returns an error for each that should be and cannot.
func (h *Host) superviseAll(candidates []Candidate) []error {
	var errs []error
	inOrder := slices.Clone(candidates)
	slices.SortStableFunc(inOrder, func(a, b Candidate) int { return h.precedence(a) - h.precedence(b) })
	for _, c := range inOrder {
		err := h.superviseOne(c)
		switch {
		case err == nil:
		case h.Awaits(c) && c.Status == StatusMissing:
			h.log.Warn("plugin begins to work when its file comes", "plugin", c.Name, "path", c.Path)
		case h.Awaits(c):
			h.lookout.report(h.log, c, err, h.advice(c, err))
		case h.declares(c):
			errs = append(errs, err)
		default:
			h.lookout.report(h.log, c, err, h.advice(c, err))
		}
	}
	return errs
}

// precedence orders plugins that may offer the same types: what the operator has declared comes first.
func (h *Host) precedence(c Candidate) int {
	if h.declared(c.Name) {
		return 0
	}
	return 1
}

// Awaits says whether what a plugin lacks can come while the host runs: its file, or a decision to trust that.
func (h *Host) Awaits(c Candidate) bool {
	return h.options.Watch && (c.Status == StatusMissing || c.Undecided)
}

func (h *Host) superviseOne(c Candidate) error {
	if !c.usable() {
		return c.refused()
	}
	g, err := h.takeUp(c)
	if g == nil && err == nil {
		g, err = h.fresh(c)
	}
	if err != nil {
		return err
	}
	if err := h.install(g); err != nil {
		h.dropImage(g.program)
		return &Error{Plugin: c.Name, Doing: "describe", Err: err, Final: true}
	}
	return nil
}

// fresh returns a generation of a file that has nothing to prove.
func (h *Host) fresh(c Candidate) (*generation, error) {
	p, err := h.resolve(c)
	if err != nil {
		return nil, err
	}
	g := h.newGeneration(p, h.configs[c.Name])
	if a, ok := h.recall(p.Candidate); ok {
		g.take(a, h.isNew(p.Candidate))
	}
	return g, nil
}

// take takes up what was learnt of a program when it was launched before. If that was by this host, its next process shows whether it takes
// its configuration, and is not waited with.
func (g *generation) take(a account, isNew bool) {
	g.clear.Store(a.Clear)
	g.declared.Store(a.Description.Permissions)
	if g.settings.Start != StartAlways && !isNew {
		g.wait(a.Description)
	}
	g.status.description = &a.Description
}

// resolve makes the copy that will be executed, and decides on the copy once more.
func (h *Host) resolve(c Candidate) (program, error) {
	if c.Status == StatusDialled {
		return h.dialledProgram(c), nil
	}
	return h.resolveBy(c, func(c Candidate, w io.Writer) Candidate { return h.inspect(c.Name, c.Path, w, nil) })
}

func (h *Host) resolveBy(c Candidate, decide func(c Candidate, w io.Writer) Candidate) (program, error) {
	c, image, err := h.launcher.dir.image(func(w io.Writer) Candidate { return decide(c, w) })
	if err != nil {
		return program{}, &Error{Plugin: c.Name, Doing: "launch", Err: err}
	}
	if c.Status != StatusReady {
		return program{}, c.refused()
	}
	return program{Candidate: c, image: image, settings: h.options.Plugins[c.Name].withDefaults(), dropped: new(atomic.Int64),
		clear: new(atomic.Bool), declared: new(atomic.Pointer[sdk.Permissions])}, nil
}

// refused is the error for a candidate that is not ready.
func (c Candidate) refused() *Error {
	return &Error{Plugin: c.Name, Doing: "launch", Err: fmt.Errorf("%s %w: %s: %s", c.Path, ErrRefused, c.Status, c.Reason), Final: true}
}

// declared says whether there are settings for a plugin.
func (h *Host) declared(name string) bool {
	_, ok := h.options.Plugins[name]
	return ok
}

// declares says whether there are settings for what a candidate is: a file is not meant by those of a plugin that is dialled.
func (h *Host) declares(c Candidate) bool {
	s, ok := h.options.Plugins[c.Name]
	return ok && s.Address == c.Address
}

// all lists the generations, see generations.
func (h *Host) all() []*generation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.generations()
}

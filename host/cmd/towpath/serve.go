package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/host/pipeline"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/host/publicapi"
	"github.com/towpath-dataplane/towpath/host/renewal"
	"github.com/towpath-dataplane/towpath/host/signaling"
	"github.com/towpath-dataplane/towpath/host/store"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

const (
	// stopTimeout bounds each step of an orderly stop.
	stopTimeout = 20 * time.Second
	// sealingKey is the name of the file with the store's key.
	sealingKey = "sealing.key"
	// purgeInterval is how often answers, callbacks and tokens that nobody needs any more are removed.
	purgeInterval = time.Hour
)

func versionLine() string {
	return fmt.Sprintf("towpath %s (%s, plugin protocol %d)", version, runtime.Version(), grpcplugin.Version)
}

func serveCommand() command {
	return command{
		name: "serve", short: "run the data plane",
		long: `
Runs the data plane that a configuration describes: launches the plugins, goes on with the flows that a former
process left running, and serves signaling for control planes, the public API for counterparties, and the
admin API for operators. What it serves goes to standard output when it is ready, its log to standard error.

Certificates are read again when their files change, at the latest with SIGHUP. A pair that cannot be used is
logged, and the one before stays in use. In the same way plugins are taken into use and out of it as their files
come and go.

SIGTERM or Ctrl-C stop it in order: flows keep their state and go on with the next start. A second signal
ends it at once, which loses nothing either.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path := configFlag(fs)
			return func(ctx context.Context, _ []string, stdout, stderr io.Writer) error {
				cfg, err := config.Load(*path)
				if err != nil {
					return err
				}
				return serve(ctx, cfg, stdout, stderr)
			}
		},
	}
}

// serve builds the host part by part, serves until ctx ends, and stops in the reverse order.
func serve(ctx context.Context, cfg *config.Config, stdout, stderr io.Writer) (err error) {
	logger := newLogger(cfg.Telemetry, stderr)
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	hangups, rescans := make(chan os.Signal, 1), make(chan os.Signal, 1)
	for _, c := range []chan os.Signal{hangups, rescans} {
		signal.Notify(c, syscall.SIGHUP)
		defer signal.Stop(c)
	}
	undo := &cleanup{}
	defer func() { err = errors.Join(err, undo.run()) }()

	if err := os.MkdirAll(cfg.DataPlane.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	sealing, err := store.LoadKey(filepath.Join(cfg.DataPlane.DataDir, sealingKey))
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Options{Path: cfg.Store.Path, Key: sealing, Logger: logger})
	if err != nil {
		return err
	}
	undo.add("close store", func(context.Context) error { return db.Close() })

	described, err := loadDescriptions(ctx, db)
	if err != nil {
		return err
	}
	pluginsChanged := make(chan struct{}, 1)
	plugins, err := newPluginHost(cfg, pluginhost.Options{Logger: logger, Registerer: metrics, Cache: described, Decisions: decisions{db}.lookup,
		Watch: cfg.Plugins.Watch, Wait: true, Configure: cfg.ConfigurePlugin, Changed: func() { signalTo(pluginsChanged) }})
	if err != nil {
		return err
	}
	undo.add("stop plugins", plugins.Close)
	err = checkSome(ctx, cfg, plugins, logger)
	if err == nil {
		err = plugins.Start(ctx, pluginConfigs(cfg))
	}
	if ctx.Err() != nil {
		return nil // asked to stop while the plugins were starting: what they failed with is no one's mistake
	}
	if err != nil {
		return err
	}

	listeners, err := listen(cfg, logger)
	if err != nil {
		return err
	}
	undo.add("close listeners", func(context.Context) error { return listeners.close() })

	key, err := token.LoadKey(filepath.Join(cfg.DataPlane.DataDir, "signing.key"))
	if err != nil {
		return err
	}
	publicURL := cfg.Public.URL
	if publicURL == "" {
		publicURL = listeners.public.url("")
	}
	authority, err := token.New(token.Config{Issuer: cfg.DataPlane.ID, Audience: publicURL, Lifetime: cfg.Token.Lifetime,
		Leeway: 5 * time.Second, Key: key, Store: db, RefreshLifetime: cfg.Token.RefreshLifetime, Grace: cfg.Token.RenewalGrace})
	if err != nil {
		return err
	}
	peers, err := outbound.NewPolicy(outbound.Rules{Allow: cfg.Outbound.Allow, AllowHTTP: cfg.Outbound.AllowHTTP})
	if err != nil {
		return err
	}
	signers, err := loadSigners(cfg)
	if err != nil {
		return err
	}
	resolver := identity.NewResolver(identity.ResolverOptions{AllowHTTP: overHTTP(peers),
		HTTP: peers.Client(outbound.Limits{Timeout: cfg.Outbound.Timeout, MaxRedirects: 3})})
	undo.add("stop resolving", func(context.Context) error { resolver.Close(); return nil })
	known, err := admin.LoadDatasets(ctx, admin.DatasetOptions{Configured: datasets(cfg), Contexts: contexts(cfg), Documents: db,
		Checker: plugins, Logger: logger})
	if err != nil {
		return err
	}
	catalog := catalog{profiles(cfg), known}
	endpoint, err := publicapi.NewEndpoint(publicapi.EndpointOptions{PublicURL: publicURL, EndpointType: catalog.endpointType,
		ResponseType: catalog.responseType, Tokens: authority, Digests: cfg.Transfer.Digests, Renewable: catalog.renewable,
		TractusX: tractusX(cfg), Lifetime: tokenLifetimes(cfg)})
	if err != nil {
		return err
	}
	share := newSharing(cfg, plugins, metrics)
	limits, err := admin.LoadLimits(ctx, admin.LimitOptions{Limiter: share.limiter, Contexts: contexts(cfg), Documents: db, Flows: db, Logger: logger})
	if err != nil {
		return err
	}
	transfer := &pipeline.Transfer{Source: plugins.Source, Sink: plugins.Sink, Retry: pipeline.Retry(cfg.Transfer.Retry),
		Digests: cfg.Transfer.Digests, Interval: cfg.Transfer.CheckpointInterval, Metrics: pipeline.NewMetrics(metrics), Logger: logger,
		Admit: share.admit, Meter: share.meterOfTransfer, Accounts: share.accounts, InOneStore: plugins.InOneStore,
		Absent: isAbsent, Passed: pluginhost.Passed, Replaced: replaced}
	engine := flow.New(flow.Options{Store: db, Catalog: catalog, Checker: plugins, Endpoint: endpoint,
		Transfer: newTransfer(transfer, share.since), Sinks: plugins, DatasetIn: signaling.DatasetIn, AnswerWithin: cfg.SignalingSettings.AnswerWithin,
		Renewer: renewal.New(renewal.Options{Signer: signers.of, AllowHTTP: overHTTP(peers), Logger: logger,
			HTTP: peers.Client(outbound.Limits{Timeout: cfg.Outbound.Timeout})}),
		Ended: limits.Ended, Waits: share.waits, Logger: logger})
	undo.add("stop flows", engine.Close)

	signalingURL := cmp.Or(cfg.Signaling.URL, listeners.signaling.url("")) + cfg.Signaling.BasePath
	configured, err := controlPlanes(cfg, signalingURL, catalog, logger)
	if err != nil {
		return err
	}
	directory, err := signaling.NewDirectory(ctx, signaling.DirectoryOptions{DataPlane: cfg.DataPlane.ID, ControlPlanes: configured,
		RegistrationKeys: registrationKeys(cfg), Documents: db, Outbound: peers, Logger: logger})
	if err != nil {
		return err
	}
	undo.add("close control planes", func(context.Context) error { directory.Close(); return nil })
	signals := signaling.NewHandler(signaling.Options{Engine: engine, ControlPlanes: directory, BasePath: cfg.Signaling.BasePath,
		Logger: logger, Registerer: metrics})
	mayAccess, err := accessHook(cfg.Access, metrics, logger)
	if err != nil {
		return fmt.Errorf("access: %w", err)
	}
	public, err := publicapi.NewHandler(publicapi.Options{Flows: engine, Responses: engine.Responses(), Tokens: authority, Source: plugins.Source, Sink: plugins.Sink,
		JWKS: authority.JWKS(), PublicURL: publicURL, Digests: cfg.Transfer.Digests,
		Limits: publicapi.Limits{MaxConcurrentPerToken: cfg.Token.MaxConcurrent, MaxBytesPerToken: cfg.Token.MaxBytes,
			MaxDuration: cfg.Token.MaxDuration},
		Resume: publicapi.ResumeOptions{Uploads: db, Sink: plugins.ResumesInside, Lifetime: cfg.Transfer.UploadLifetime,
			Interval: cfg.Transfer.CheckpointInterval},
		Renewal:    publicapi.RenewalOptions{Tokens: authority, Keys: resolver.Keys, Audiences: signers.dids(), TractusX: tractusX(cfg)},
		Proxy:      publicapi.ProxyOptions{Proxies: plugins.Proxies, Headers: cfg.Public.ProxyHeaders},
		Meter:      share.meterOfRequest,
		Access:     mayAccess,
		Replaced:   replaced,
		Registerer: metrics, Logger: logger})
	if err != nil {
		return err
	}
	local, err := publicapi.NewReader(publicapi.ReaderOptions{Visit: engine.Visit, Record: engine.Record, Source: plugins.Source,
		Digests: cfg.Transfer.Digests, Meter: share.meterOfRequest, Replaced: replaced, Logger: logger})
	if err != nil {
		return err
	}
	offers := newCapabilities(cfg, catalog, plugins, pluginsChanged)
	registrar, err := signaling.NewRegistrar(ctx, signaling.RegistrarOptions{DataPlane: cfg.DataPlane.ID, ControlPlanes: directory,
		Profiles: offers.Profiles, Carried: offers.Carried, Changed: offers.changed, Documents: db, Logger: logger, Registerer: metrics})
	if err != nil {
		return err
	}
	var ready atomic.Bool
	operators := admin.NewHandler(admin.Options{Store: db, Waiting: engine.Waiting, Movement: engine.Movement,
		ResponseWaiting: engine.ResponseWaiting, ResponseMovement: engine.ResponseMovement, Metrics: metrics, Logger: logger,
		Token: cfg.Admin.Token.Reveal(), Limits: limits, Operations: engine, Read: local.Data, Datasets: known,
		Agreement: agreement(&signaling.Agreements{ControlPlanes: directory}), ControlPlanes: office{directory, registrar},
		Plugins: func() []admin.Plugin { return showPlugins(plugins) }, Rescan: plugins.Rescan, Release: releaser(plugins), PluginBuild: readBuild,
		PluginTrust: newPluginTrust(cfg, db, plugins),
		Ready:       func() error { return readiness(ready.Load(), cfg.Plugins.Declared, plugins) }})
	dispatcher := &signaling.Dispatcher{Outbox: db, ControlPlanes: directory, Logger: logger, Registerer: metrics}

	if err := engine.Revive(ctx); err != nil {
		return err
	}
	share.limiter.Queue.Begin()
	warn(cfg, logger)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return dispatcher.Run(ctx) })
	group.Go(func() error { return registrar.Run(ctx) })
	group.Go(func() error { return offers.watch(ctx) })
	group.Go(func() error { return purge(ctx, db, authority, logger) })
	group.Go(func() error { return expire(ctx, public, cfg.Transfer.UploadLifetime, logger) })
	group.Go(func() error { return listeners.reload(ctx, hangups) })
	group.Go(func() error { return rescan(ctx, plugins, rescans, logger) })
	if cfg.Plugins.Watch {
		group.Go(func() error { return plugins.Watch(ctx) })
	}
	group.Go(func() error { return listeners.admin.serve(ctx, operators, logger) })
	group.Go(func() error { return listeners.public.serve(ctx, behind(publicURL, public), logger) })
	group.Go(func() error {
		return listeners.signaling.serve(ctx, newConnectors(cfg, engine, catalog, directory, signals, logger, metrics), logger)
	})
	group.Go(func() error {
		// Requests and transfers end when the flows do, so the servers do not wait for long ones.
		<-ctx.Done()
		ready.Store(false)
		logger.Info("stopping", "cause", context.Cause(ctx))
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return engine.Close(stopCtx)
	})
	ready.Store(true)
	announce(stdout, cfg, listeners, publicURL, plugins)
	logger.Info("ready", "version", version, "dataplane", cfg.DataPlane.ID)
	defer runtime.KeepAlive(raiseHeap())
	return group.Wait()
}

// cleanup is what has to be undone, last first.
type cleanup struct {
	steps []func() error
}

func (c *cleanup) add(what string, step func(context.Context) error) {
	c.steps = append(c.steps, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := step(ctx); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	})
}

func (c *cleanup) run() error {
	var errs []error
	for i := len(c.steps) - 1; i >= 0; i-- {
		errs = append(errs, c.steps[i]())
	}
	return errors.Join(errs...)
}

func newLogger(t config.Telemetry, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: t.LogLevel}
	if t.LogFormat == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// replaced says of a failure that another build of the plugin takes the next call.
func replaced(err error) bool { return errors.Is(err, pluginhost.ErrReplaced) }

func pluginConfigs(cfg *config.Config) map[string][]byte {
	configs := map[string][]byte{}
	for _, p := range cfg.Plugins.Declared {
		configs[p.Name] = cfg.PluginConfig(p.Name)
	}
	return configs
}

// isAbsent says of the failure of a transfer that nothing is wrong with it but that its plugin has to come, or to come back.
func isAbsent(err error) bool {
	return errors.Is(err, pluginhost.ErrWithdrawn) || errors.Is(err, pluginhost.ErrQuarantined) || errors.Is(err, pluginhost.ErrBusy)
}

func readiness(ready bool, declared []config.Plugin, plugins *pluginhost.Host) error {
	if !ready {
		return errors.New("starting or stopping")
	}
	var problems []error
	used := ""
	for _, p := range plugins.Plugins() { // of one name, what is in use comes first
		if p.Generation != "" || p.Withdrawn {
			used = p.Name
		}
		if p.State == pluginhost.StateBackoff || p.State == pluginhost.StateFailed || p.State == pluginhost.StateQuarantined {
			problems = append(problems, fmt.Errorf("plugin %s is not ready: %s", p.Name, p.Problem))
		}
		switch {
		case p.Address != "" && p.State == pluginhost.StateStarting: // again and again, while nobody is there
			problems = append(problems, fmt.Errorf("plugin %s is not ready: it is being dialled at %s", p.Name, p.Address))
		case p.Name == used:
		case p.Status == pluginhost.StatusMissing:
			problems = append(problems, fmt.Errorf("plugin %s is not ready: there is no file %s", p.Name, p.Path))
		case p.Undecided && slices.ContainsFunc(declared, func(d config.Plugin) bool { return d.Name == p.Name }):
			problems = append(problems, fmt.Errorf("plugin %s is not ready: %s", p.Name, p.Reason))
		}
	}
	return errors.Join(problems...)
}

// purge removes, now and then, what nobody needs any more.
func purge(ctx context.Context, db *store.DB, authority *token.Authority, logger *slog.Logger) error {
	tick := time.NewTicker(purgeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := errors.Join(db.Purge(ctx), authority.Purge(ctx)); err != nil && ctx.Err() == nil {
			logger.Error("purge failed", "err", err)
		}
	}
}

// expire gives up, now and then, uploads that nobody has gone on with for their lifetime.
func expire(ctx context.Context, public *publicapi.Handler, lifetime time.Duration, logger *slog.Logger) error {
	tick := time.NewTicker(min(purgeInterval, max(time.Second, lifetime/10)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := public.Expire(ctx); err != nil && ctx.Err() == nil {
			logger.Error("uploads that have expired not given up", "err", err)
		}
	}
}

// warn says what an operator should not leave so.
func warn(cfg *config.Config, logger *slog.Logger) {
	for _, c := range cfg.ControlPlanes {
		if !c.Authorization.HasInbound() && !cfg.Signaling.Loopback() {
			logger.Warn("the control plane has no authorization, and signaling listens beyond this machine: whoever reaches it can give orders",
				"control_plane", c.ID, "address", cfg.Signaling.Address)
		}
		if a := c.Authorization; a != nil && a.InsecureSkipSignature {
			logger.Warn("the signatures of the control plane's tokens are not verified: whoever reaches signaling can give orders",
				"control_plane", c.ID)
		}
	}
	if !cfg.Admin.Loopback() && cfg.Admin.Token.IsZero() && (cfg.Admin.TLS == nil || cfg.Admin.TLS.ClientCA == "") {
		logger.Warn("the admin API has neither a token nor client certificates, and listens beyond this machine", "address", cfg.Admin.Address)
	}
	if cfg.Plugins.Trust == config.TrustOff {
		logger.Warn("any program in the plugin directory is executed", "directory", cfg.Plugins.Directory)
	}
	for _, participant := range cfg.ParticipantContexts {
		for _, profile := range unanswered(cfg, participant.Name) {
			logger.Warn("nobody can start flows of the profile here as a provider: no dataset says with response where the answers go",
				"profile", profile, "participant_context", participant.Name)
		}
	}
}

// unanswered names the profiles that have a response channel while no dataset that a participant context provides has a response sink. EDC's
// messages can have one themselves.
func unanswered(cfg *config.Config, participantContext string) (profiles []string) {
	provided := func(d config.Dataset) bool { return d.ParticipantContext == participantContext && d.Source.Type != "" }
	answered := func(d config.Dataset) bool { return provided(d) && d.Response.Type != "" }
	edc := func(c config.ControlPlane) bool {
		return c.ParticipantContext == participantContext && c.Protocol == config.ProtocolEDC
	}
	if !slices.ContainsFunc(cfg.Datasets, provided) || slices.ContainsFunc(cfg.Datasets, answered) || slices.ContainsFunc(cfg.ControlPlanes, edc) {
		return nil
	}
	for _, p := range cfg.Profiles {
		if p.Response != nil {
			profiles = append(profiles, p.Name)
		}
	}
	return profiles
}

// announce tells a person what is served and where.
func announce(w io.Writer, cfg *config.Config, l *listeners, publicURL string, plugins *pluginhost.Host) {
	fmt.Fprintf(w, "Towpath %s serves data plane %q\n\n", version, cfg.DataPlane.ID)
	fmt.Fprintf(w, "  signaling  %s/dataflows\n", l.signaling.url(cfg.Signaling.BasePath))
	fmt.Fprintf(w, "  public     %s\n", publicURL)
	fmt.Fprintf(w, "  admin      %s  (/readyz, /metrics, /api/v1/flows, /api/v1/plugins)\n", l.admin.url(""))
	for _, c := range cfg.ControlPlanes {
		if c.Protocol == config.ProtocolEDC {
			fmt.Fprintf(w, "  EDC        %s  (control plane %q)\n", l.signaling.url(cfg.Signaling.BasePath+config.EDCPath(c.ID)), c.ID)
		}
		fmt.Fprintf(w, "  callbacks  %s  (control plane %q)\n", c.Endpoint, c.ID)
	}
	fmt.Fprintln(w)
	for _, p := range plugins.Plugins() {
		if p.State == pluginhost.StateReady || p.State == pluginhost.StateNotStarted {
			fmt.Fprintf(w, "  plugin     %s %s  reads %s, writes %s\n", p.Name, p.Version, orNone(p.Sources), orNone(p.Sinks))
		}
	}
	for _, p := range cfg.Profiles {
		fmt.Fprintf(w, "  profile    %s  (%s)\n", p.Name, p.Direction)
	}
	for _, d := range cfg.Datasets {
		fmt.Fprintf(w, "  dataset    %s  reads %s, writes %s\n", d.ID, orNothing(d.Source.Type), orNothing(d.Sink.Type))
	}
}

func orNone(types []string) string {
	return orNothing(strings.Join(types, ", "))
}

// behind strips the path of the public URL, unless a proxy in front has done so.
func behind(publicURL string, h http.Handler) http.Handler {
	u, err := url.Parse(publicURL)
	if err != nil || strings.Trim(u.Path, "/") == "" {
		return h
	}
	prefix := strings.TrimSuffix(u.EscapedPath(), "/")
	stripped := http.StripPrefix(prefix, h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.EscapedPath(), prefix+"/") {
			stripped.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

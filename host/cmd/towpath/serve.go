package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/pipeline"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/host/publicapi"
	"github.com/towpath-dataplane/towpath/host/signaling"
	"github.com/towpath-dataplane/towpath/host/store"
	"github.com/towpath-dataplane/towpath/host/token"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

const (
	// stopTimeout bounds each step of an orderly stop.
	stopTimeout = 20 * time.Second
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
	undo := &cleanup{}
	defer func() { err = errors.Join(err, undo.run()) }()

	if err := os.MkdirAll(cfg.DataPlane.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	sealing, err := store.LoadKey(filepath.Join(cfg.DataPlane.DataDir, "sealing.key"))
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Options{Path: cfg.Store.Path, Key: sealing, Logger: logger})
	if err != nil {
		return err
	}
	undo.add("close store", func(context.Context) error { return db.Close() })

	plugins, err := newPluginHost(cfg, logger, metrics)
	if err != nil {
		return err
	}
	undo.add("stop plugins", plugins.Close)
	err = check(ctx, cfg, plugins)
	if err == nil {
		err = plugins.Start(ctx, pluginConfigs(cfg))
	}
	if ctx.Err() != nil {
		return nil // asked to stop while the plugins were starting: what they failed with is no one's mistake
	}
	if err != nil {
		return err
	}

	listeners, err := listen(cfg)
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
		Leeway: 5 * time.Second, Key: key, Store: db})
	if err != nil {
		return err
	}
	catalog := newCatalog(cfg)
	endpoint, err := publicapi.NewEndpoint(publicapi.EndpointOptions{PublicURL: publicURL, EndpointType: catalog.endpointType,
		Tokens: authority, Digests: cfg.Transfer.Digests})
	if err != nil {
		return err
	}
	transfer := &pipeline.Transfer{Source: plugins.Source, Sink: plugins.Sink, Retry: pipeline.Retry(cfg.Transfer.Retry),
		Digests: cfg.Transfer.Digests, Interval: cfg.Transfer.CheckpointInterval, Metrics: pipeline.NewMetrics(metrics), Logger: logger}
	engine := flow.New(flow.Options{Store: db, Catalog: catalog, Checker: plugins, Endpoint: endpoint,
		Transfer: newTransfer(transfer, catalog), Sinks: plugins, Logger: logger})
	undo.add("stop flows", engine.Close)

	controlPlanes, err := signaling.NewDirectory(ctx, signaling.DirectoryOptions{DataPlane: cfg.DataPlane.ID, Logger: logger,
		ControlPlanes: []signaling.ControlPlane{{ID: cfg.ControlPlane.ID, Endpoint: cfg.ControlPlane.Endpoint,
			GiveUpAfter: cfg.ControlPlane.GiveUpAfter}}})
	if err != nil {
		return err
	}
	undo.add("close control planes", func(context.Context) error { controlPlanes.Close(); return nil })
	signals := signaling.NewHandler(signaling.Options{Engine: engine, ControlPlanes: controlPlanes, BasePath: cfg.Signaling.BasePath,
		Logger: logger, Registerer: metrics})
	public, err := publicapi.NewHandler(publicapi.Options{Flows: engine, Tokens: authority, Source: plugins.Source, Sink: plugins.Sink,
		JWKS: authority.JWKS(), PublicURL: publicURL, Digests: cfg.Transfer.Digests,
		Limits: publicapi.Limits{MaxConcurrentPerToken: cfg.Token.MaxConcurrent, MaxBytesPerToken: cfg.Token.MaxBytes,
			MaxDuration: cfg.Token.MaxDuration},
		Registerer: metrics, Logger: logger})
	if err != nil {
		return err
	}
	var ready atomic.Bool
	operators := admin.NewHandler(admin.Options{Store: db, Waiting: engine.Waiting, Metrics: metrics, Logger: logger,
		Plugins: func() []admin.Plugin { return showPlugins(plugins) },
		Ready:   func() error { return readiness(ready.Load(), plugins) }})
	dispatcher := &signaling.Dispatcher{Outbox: db, ControlPlanes: controlPlanes, Logger: logger, Registerer: metrics}

	if err := engine.Revive(ctx); err != nil {
		return err
	}
	warn(cfg, logger)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return dispatcher.Run(ctx) })
	group.Go(func() error { return purge(ctx, db, authority, logger) })
	group.Go(func() error { return listeners.admin.serve(ctx, operators, logger) })
	group.Go(func() error { return listeners.public.serve(ctx, behind(publicURL, public), logger) })
	group.Go(func() error { return listeners.signaling.serve(ctx, signals, logger) })
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

func pluginConfigs(cfg *config.Config) map[string][]byte {
	configs := map[string][]byte{}
	for _, p := range cfg.Plugins.Declared {
		configs[p.Name] = cfg.PluginConfig(p.Name)
	}
	return configs
}

func readiness(ready bool, plugins *pluginhost.Host) error {
	if !ready {
		return errors.New("starting or stopping")
	}
	var problems []error
	for _, p := range plugins.Plugins() {
		if p.State == pluginhost.StateBackoff || p.State == pluginhost.StateFailed {
			problems = append(problems, fmt.Errorf("plugin %s is not ready: %s", p.Name, p.Problem))
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

// warn says what an operator should not leave so.
func warn(cfg *config.Config, logger *slog.Logger) {
	if !cfg.Signaling.Loopback() {
		logger.Warn("signaling has no authorization and listens beyond this machine: keep it on a network that only control planes reach",
			"address", cfg.Signaling.Address)
	}
	if !cfg.Admin.Loopback() {
		logger.Warn("the admin API has no authorization and listens beyond this machine", "address", cfg.Admin.Address)
	}
	if cfg.Plugins.Trust == config.TrustOff {
		logger.Warn("any program in the plugin directory is executed", "directory", cfg.Plugins.Directory)
	}
}

// announce tells a person what is served and where.
func announce(w io.Writer, cfg *config.Config, l *listeners, publicURL string, plugins *pluginhost.Host) {
	fmt.Fprintf(w, "Towpath %s serves data plane %q\n\n", version, cfg.DataPlane.ID)
	fmt.Fprintf(w, "  signaling  %s/dataflows\n", l.signaling.url(cfg.Signaling.BasePath))
	fmt.Fprintf(w, "  public     %s\n", publicURL)
	fmt.Fprintf(w, "  admin      %s  (/readyz, /metrics, /api/v1/flows, /api/v1/plugins)\n", l.admin.url(""))
	fmt.Fprintf(w, "  callbacks  %s  (control plane %q)\n\n", cfg.ControlPlane.Endpoint, cfg.ControlPlane.ID)
	for _, p := range plugins.Plugins() {
		if p.State == pluginhost.StateReady {
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

// listeners are the three doors of a host.
type listeners struct{ signaling, public, admin *door }

// door is one listener with its protocol.
type door struct {
	net.Listener
	name string
	tls  bool
}

// listen opens all doors, or none.
func listen(cfg *config.Config) (_ *listeners, err error) {
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.signaling, err = open("signaling", cfg.Signaling); err != nil {
		return nil, err
	}
	if l.public, err = open("public", cfg.Public); err != nil {
		return nil, err
	}
	if l.admin, err = open("admin", cfg.Admin); err != nil {
		return nil, err
	}
	return l, nil
}

func open(name string, c config.Listener) (*door, error) {
	l, err := net.Listen("tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", name, err)
	}
	if c.TLS == nil {
		return &door{l, name, false}, nil
	}
	certificate, err := tls.LoadX509KeyPair(c.TLS.Certificate, c.TLS.Key)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("certificate for %s: %w", name, err)
	}
	return &door{tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"}}), name, true}, nil
}

func (l *listeners) close() error {
	for _, d := range []*door{l.signaling, l.public, l.admin} {
		if d != nil {
			d.Close() // closed already by its server, after an orderly stop
		}
	}
	return nil
}

func (d *door) url(path string) string {
	scheme := "http"
	if d.tls {
		scheme = "https"
	}
	return scheme + "://" + d.Addr().String() + path
}

// serve answers requests until ctx ends; then it takes no new ones and waits for those it has.
func (d *door) serve(ctx context.Context, h http.Handler, logger *slog.Logger) error {
	fresh := &freshConns{conns: map[net.Conn]bool{}}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug), ConnState: fresh.note}
	served := make(chan error, 1)
	go func() { served <- server.Serve(d) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", d.name, err)
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	fresh.close()
	if err := server.Shutdown(stopCtx); err != nil {
		server.Close()
		logger.Warn("requests were cut at the stop", "listener", d.name, "err", err)
	}
	<-served
	return nil
}

// freshConns are connections on which no request has come yet: clients dial ahead. A server that shuts down would wait for them.
type freshConns struct {
	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	closed bool
}

func (f *freshConns) note(c net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(f.conns, c)
	case f.closed:
		c.Close()
	default:
		f.conns[c] = true
	}
}

func (f *freshConns) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		c.Close()
	}
}

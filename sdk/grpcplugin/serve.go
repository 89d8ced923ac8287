package grpcplugin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// drainOnTerm is how long running flows have after SIGTERM.
	drainOnTerm = 10 * time.Second
	// flushOnTerm is how long what they have sent last has after that to reach the host.
	flushOnTerm = 3 * time.Second
)

// Serve runs a plugin. It is all that a plugin's main has to do, and returns when the host ends the plugin. Log with slog's default
// logger: its records reach the host's log. Standard output is not for logs.
//
// A plugin that no host launches, but somebody with the argument -listen, lives on its own: hosts dial it, several at once and one after the
// other, until a SIGTERM. It logs to its own standard error.
func Serve(p sdk.Plugin) {
	if os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		os.Exit(startedByHand(p, os.Args[1:]))
	}
	defer runtime.KeepAlive(raiseHeap())
	slog.SetDefault(slog.New(newLogHandler(os.Stderr)))
	s := newPluginServer(p)
	go exitOnTerm(s)
	go exitWithParent(os.Getppid())
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{Version: {Name: &glue{server: s}}},
		GRPCServer:       NewServer,
		Logger: hclog.New(&hclog.LoggerOptions{
			Name: p.Name, Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
	})
}

// startedByHand is Serve without a host. It returns the exit status.
func startedByHand(p sdk.Plugin, args []string) int {
	if len(args) == 0 {
		fmt.Fprintf(os.Stderr, "%s %s is a plugin of Towpath. Put it into the host's plugin directory; towpath launches it.\n"+
			"Or have it live on its own, and hosts dial it: -listen unix:///run/%s.sock. -help says more.\n", p.Name, p.Version, p.Name)
		return 1
	}
	l, err := parseListening(p, args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		defer runtime.KeepAlive(raiseHeap())
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
		err = serveAlone(p, l)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		return 1
	}
	return 0
}

// exitOnTerm lets running flows end or be cut by the host before it exits on SIGTERM.
func exitOnTerm(s *pluginServer) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	<-term
	ctx, cancel := context.WithTimeout(context.Background(), drainOnTerm)
	defer cancel()
	busy := s.busy()
	s.drain(ctx)
	if busy {
		s.flush(flushOnTerm)
	}
	os.Exit(0)
}

// exitWithParent exits when the host is gone. On Linux the kernel does that already if the host asked for it.
func exitWithParent(parent int) {
	for os.Getppid() == parent {
		time.Sleep(time.Second)
	}
	os.Exit(1)
}

// glue ties both halves to go-plugin.
type glue struct {
	plugin.NetRPCUnsupportedPlugin
	server *pluginServer // nil in a host
}

func (g *glue) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	g.server.mu.Lock()
	g.server.stop = s.GracefulStop
	g.server.mu.Unlock()
	g.server.register(s)
	return nil
}

func (g *glue) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}

func (s *pluginServer) register(r grpc.ServiceRegistrar) {
	pluginv1.RegisterPluginServer(r, s)
	if len(s.sources) > 0 {
		pluginv1.RegisterDataSourceServer(r, sourceServer{pluginServer: s})
	}
	if len(s.sinks) > 0 {
		pluginv1.RegisterDataSinkServer(r, sinkServer{pluginServer: s})
	}
}

// Register puts the services of a plugin on a gRPC server made with NewServer, for a plugin that is not launched by a host.
func Register(r grpc.ServiceRegistrar, p sdk.Plugin) { newPluginServer(p).register(r) }

func recoverUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	defer recovered(&err)
	return handler(ctx, req)
}

func recoverStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer recovered(&err)
	return handler(srv, stream)
}

func recovered(err *error) {
	if r := recover(); r != nil {
		slog.Error("panic in a call", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		*err = statusOf(sdk.Errorf(sdk.Internal, "the plugin panicked: %v", r))
	}
}

// newLogHandler writes records as go-hclog does, which is what a host expects on a plugin's standard error.
func newLogHandler(w *os.File) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			return slog.String("@timestamp", a.Value.Time().UTC().Format("2006-01-02T15:04:05.000000Z07:00"))
		case slog.LevelKey:
			return slog.String("@level", hclogLevel(a.Value.Any().(slog.Level)))
		case slog.MessageKey:
			a.Key = "@message"
		}
		return a
	}})
}

func hclogLevel(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "trace"
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}

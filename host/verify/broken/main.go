// Command broken is a plugin that keeps its promises, but for the one that its file name says: towpath-plugin-<breach>, with the
// breaches below. Called "sound" it breaks none. It shows that the suite of host/verify sees what it looks for.
//
// It is built without go-plugin: a server in front of a plugin of the SDK, which would not break anything, hands on what is said and
// changes it on the way.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/proto" // for breaches that replace the codec
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// breach says what is done otherwise. nil: as it should be.
type breach struct {
	// start is called before the plugin says where it listens.
	start func()
	// cookieless serves whoever has launched it.
	cookieless bool
	// deafToTerm ignores SIGTERM; hasty exits at once.
	deafToTerm, hasty bool
	options           []grpc.ServerOption
	withoutSinks      bool

	describe    func(*pluginv1.DescribeRequest, *pluginv1.DescribeResponse) error
	configure   func(*pluginv1.ConfigureRequest, error) error
	health      func(*pluginv1.HealthResponse)
	drain       func(*pluginv1.DrainResponse)
	validate    func(*pluginv1.DataAddress, *pluginv1.ValidateResponse, error) (*pluginv1.ValidateResponse, error)
	provision   func() (*pluginv1.ProvisionResponse, error)
	deprovision func() error

	// beforeRead changes what opens a read; a nil ReadOpen is one that is not there.
	beforeRead  func(*pluginv1.ReadOpen) error
	beforeWrite func(*pluginv1.WriteOpen) error
	// frame returns what is sent in place of a source's frame; toSink what is handed to the sink in place of the host's.
	frame  func(*flow, *pluginv1.Frame) []*pluginv1.Frame
	toSink func(*flow, *pluginv1.Frame) []*pluginv1.Frame
	up     func(*flow, *pluginv1.WriteUp) []*pluginv1.WriteUp
	// answer changes a frame of Answer.
	answer func(*flow, *pluginv1.Frame)
	// uncut does not hear that a flow is cut; hoards reads ahead without bound; alone serves one flow at a time.
	uncut, hoards, alone bool
}

// flow is what a breach may remember of one.
type flow struct {
	read  *pluginv1.ReadOpen
	write *pluginv1.WriteOpen
	part  *pluginv1.PartBegin
	parts int
	bytes uint64
	sent  bool // whatever is done once
}

// see notes a frame.
func (f *flow) see(frame *pluginv1.Frame) {
	switch k := frame.Kind.(type) {
	case *pluginv1.Frame_PartBegin:
		f.part, f.bytes = k.PartBegin, k.PartBegin.Offset
		f.parts++
	case *pluginv1.Frame_Data:
		f.bytes += uint64(len(k.Data))
	}
}

func main() {
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "towpath-plugin-")
	b, ok := breaches[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "broken: no breach is called %q\n", name)
		os.Exit(2)
	}
	if !b.cookieless && os.Getenv("TOWPATH_PLUGIN") != "dataspace" {
		fmt.Fprintln(os.Stderr, "broken: this is a plugin: a host launches it")
		os.Exit(1)
	}
	if b.start != nil {
		b.start()
	}
	if err := serve(b); err != nil {
		fmt.Fprintln(os.Stderr, "broken:", err)
		os.Exit(1)
	}
}

// serve serves until it is told to end.
func serve(b breach) error {
	inner, err := innerPlugin()
	if err != nil {
		return err
	}
	front := &front{breach: b, plugin: pluginv1.NewPluginClient(inner), source: pluginv1.NewDataSourceClient(inner),
		sink: pluginv1.NewDataSinkClient(inner)}
	server := grpc.NewServer(append([]grpc.ServerOption{grpc.MaxRecvMsgSize(8 << 20), grpc.InitialWindowSize(1 << 20),
		grpc.InitialConnWindowSize(4 << 20), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second})}, b.options...)...)
	pluginv1.RegisterPluginServer(server, front)
	pluginv1.RegisterDataSourceServer(server, sourceFront{front: front})
	if !b.withoutSinks {
		pluginv1.RegisterDataSinkServer(server, sinkFront{front: front})
	}
	path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "broken")
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	fmt.Printf("1|1|unix|%s|grpc\n", path)
	go endOnTerm(b, front, server)
	return server.Serve(listener)
}

// endOnTerm lets flows end before it stops serving.
func endOnTerm(b breach, f *front, server *grpc.Server) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	for range term {
		switch {
		case b.deafToTerm:
			continue
		case b.hasty:
			os.Exit(0)
		}
		go f.plugin.Drain(context.Background(), &pluginv1.DrainRequest{})
		stopped := make(chan struct{})
		go func() {
			server.GracefulStop()
			close(stopped)
		}()
		select {
		case <-stopped:
		case <-time.After(10 * time.Second):
		}
		os.Exit(0)
	}
}

// innerPlugin serves the plugin of the SDK inside this process.
func innerPlugin() (*grpc.ClientConn, error) {
	listener := bufconn.Listen(1 << 20)
	server := grpcplugin.NewServer(nil)
	grpcplugin.Register(server, newPlugin())
	go server.Serve(listener)
	return grpc.NewClient("passthrough:inner", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20), grpc.MaxCallSendMsgSize(16<<20)),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(4<<20))
}

// one is held by a plugin that serves one flow at a time.
var one sync.Mutex

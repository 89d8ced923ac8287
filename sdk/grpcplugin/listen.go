package grpcplugin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/towpath-dataplane/towpath/sdk"
)

// listening is how a plugin is told to live on its own, at an address that hosts dial.
type listening struct {
	address string
	// PEM files: what the plugin shows of itself, and the authorities of which one has to have signed the certificate of a host.
	certificate, key, clientCA string
}

// parseListening reads the arguments of a plugin that is started by hand.
func parseListening(p sdk.Plugin, args []string, w io.Writer) (l listening, err error) {
	fs := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	fs.SetOutput(w)
	fs.StringVar(&l.address, "listen", "", "live on its own at this `address`, which hosts dial: unix:///path or tcp://host:port")
	fs.StringVar(&l.certificate, "certificate", "", "PEM `file` with the plugin's certificate and its chain, for tcp")
	fs.StringVar(&l.key, "key", "", "PEM `file` with the key of the certificate")
	fs.StringVar(&l.clientCA, "client-ca", "", "PEM `file` with the authorities of hosts' certificates")
	if err := fs.Parse(args); err != nil {
		return l, err
	}
	if fs.NArg() > 0 {
		return l, fmt.Errorf("%q is not expected", fs.Arg(0))
	}
	network, _, err := sdk.ListenAddress(l.address)
	given := l.certificate != "" || l.key != "" || l.clientCA != ""
	switch {
	case err != nil:
		return l, fmt.Errorf("-listen: %w", err)
	case network == "unix" && given:
		return l, errors.New("-certificate, -key and -client-ca are for tcp: a unix socket is its user's alone")
	case network == "tcp" && (l.certificate == "" || l.key == "" || l.clientCA == ""):
		return l, errors.New("over tcp there is always mutual TLS, on this machine too: -certificate, -key and -client-ca are needed")
	}
	return l, nil
}

// open listens, and returns what a server there needs.
func (l listening) open() (net.Listener, []grpc.ServerOption, error) {
	network, address, err := sdk.ListenAddress(l.address)
	if err != nil {
		return nil, nil, err
	}
	options := []grpc.ServerOption{
		grpc.ConnectionTimeout(handshakeTimeout),
		// A host that is gone without a word keeps nothing here.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 20 * time.Second}),
	}
	if network == "unix" {
		listener, err := listenUnix(address)
		return listener, options, err
	}
	if _, err := l.tls(); err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen(network, address)
	// The files are read for each connection: whoever renews them need not start the plugin again.
	config := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return l.tls() }}
	return listener, append(options, grpc.Creds(credentials.NewTLS(config))), err
}

// handshakeTimeout is how long a connection may take until it can be used.
const handshakeTimeout = 20 * time.Second

func (l listening) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(l.certificate, l.key)
	if err != nil {
		return nil, fmt.Errorf("-certificate, -key: %w", err)
	}
	authorities, err := os.ReadFile(l.clientCA)
	if err != nil {
		return nil, fmt.Errorf("-client-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("-client-ca: %s has no certificate in PEM", l.clientCA)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}, nil
}

// listenUnix listens on a socket that only the plugin's user, and root, can connect to. It takes the place of one where nobody listens
// any more.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("listen: somebody listens at %s", path)
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
		}
	}
	mask := syscall.Umask(0o177)
	defer syscall.Umask(mask)
	return net.Listen("unix", path)
}

// serveAlone serves hosts that dial, until the process is asked to end. Flows that run then have a while to end; those that are left are
// cut, and go on when the plugin is there again.
func serveAlone(p sdk.Plugin, l listening) error {
	listener, options, err := l.open()
	if err != nil {
		return err
	}
	defer listener.Close()
	scratch, err := os.MkdirTemp("", "towpath-"+p.Name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	slog.Info("plugin listens", "plugin", p.Name, "version", p.Version, "address", listener.Addr().Network()+"://"+listener.Addr().String())
	return serveHosts(ctx, p, listener, scratch, options)
}

// serveHosts serves until ctx ends.
func serveHosts(ctx context.Context, p sdk.Plugin, listener net.Listener, scratch string, options []grpc.ServerOption) error {
	s := newPluginServer(p)
	s.hosts = &hosts{scratch: scratch, using: map[*hostAddr]bool{}}
	server := NewServer(append(options, grpc.ChainUnaryInterceptor(s.hosts.checkUnary), grpc.ChainStreamInterceptor(s.hosts.checkStream)))
	s.register(server)
	s.stop = server.GracefulStop
	served := make(chan error, 1)
	go func() { served <- server.Serve(hostListener{listener, s.hosts}) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		slog.Info("plugin ends", "plugin", p.Name)
		drained, cancel := context.WithTimeout(context.Background(), drainOnTerm)
		s.drain(drained)
		cancel()
		s.flush(flushOnTerm)
	}
	server.Stop()
	return err
}

package pluginhost

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
)

// DialTLS names the PEM files for a plugin that is dialled over TCP. They are read whenever it is dialled.
type DialTLS struct {
	Certificate, Key string // what the host shows of itself
	CA               string // the authorities of which one has to have signed the plugin's certificate
	ServerName       string // that the certificate has to be for. "": the host in the address
}

// checkDialled says what is wrong with the settings of a plugin that is dialled.
func (s Settings) checkDialled() error {
	network, address, err := sdk.ListenAddress(s.Address)
	if err != nil {
		return err
	}
	if host, port, _ := net.SplitHostPort(address); network == "tcp" && (host == "" || port == "0") {
		return fmt.Errorf("%s says nowhere to dial: it needs a host and a port", s.Address)
	}
	t := s.TLS
	switch {
	case network == "tcp" && (t == nil || t.Certificate == "" || t.Key == "" || t.CA == ""):
		return fmt.Errorf("%s needs mutual TLS: a certificate, its key, and the authorities of the plugin's", s.Address)
	case network != "tcp" && t != nil:
		return fmt.Errorf("%s needs no TLS", s.Address)
	case s.Binary != "" || s.SHA256 != "" || s.Publisher != "" || len(s.Environment)+len(s.PassEnvironment) > 0:
		return fmt.Errorf("a plugin that is dialled at %s has neither a file nor an environment", s.Address)
	case s.Start != "" || s.Lane != "" || s.LaneBuffer != 0 || s.MTLS != "" || s.StopTimeout != 0 ||
		s.Isolation != "" || s.MaxProcesses != 0 || s.QuarantineAfter != 0:
		return fmt.Errorf("a plugin that is dialled at %s is not launched", s.Address)
	case s.Allowed.Limits != confine.Limits{} || s.Allowed.Environment != nil || s.Allowed.Read != nil || s.Allowed.Write != nil ||
		s.Allowed.Connect != nil:
		return fmt.Errorf("a plugin that is dialled at %s cannot be kept to anything", s.Address)
	}
	return nil
}

// dialled says whether the plugin is dialled, not launched.
func (p program) dialled() bool { return p.settings.Address != "" }

// verb is what is done to have the plugin.
func (p program) verb() string {
	if p.dialled() {
		return "dialled"
	}
	return "launched"
}

// place says for the log where an instance runs.
func (p program) place(in *instance) slog.Attr {
	if p.dialled() {
		return slog.String("address", p.Address)
	}
	return slog.Int("pid", in.process.pid)
}

// dialledCandidate is what is known of a plugin that is dialled.
func dialledCandidate(name string, s Settings) Candidate {
	c := Candidate{Name: name, Address: s.Address, Status: StatusDialled, Reason: "its plugin block says where it listens"}
	if s.TLS != nil {
		c.Reason += ", and mutual TLS that it is the one"
	} else {
		c.Reason += ", and the socket that it runs as the host's user or root"
	}
	return c
}

// howUnconfined is why nothing that a dialled plugin does is kept to anything.
const howUnconfined = "not confined: the host does not launch it"

// unconfine says of each item that it is not in force.
func unconfine(items []confine.Item) []confine.Item {
	for i := range items {
		items[i].Confined, items[i].InForce, items[i].How = "", false, howUnconfined
	}
	return items
}

// fingerprint tells what a plugin says of itself from anything else that it could say. It stands for the digest of a file.
func fingerprint(d sdk.Description) string {
	content, err := json.Marshal(d)
	if err != nil {
		return ""
	}
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

// dials says whether any plugin is dialled.
func (h *Host) dials() bool {
	for _, s := range h.options.Plugins {
		if s.Address != "" {
			return true
		}
	}
	return false
}

// dialledProgram is what is needed to dial a plugin, any number of times.
func (h *Host) dialledProgram(c Candidate) program {
	return program{Candidate: c, settings: h.options.Plugins[c.Name], dropped: new(atomic.Int64), clear: new(atomic.Bool),
		declared: new(atomic.Pointer[sdk.Permissions])}
}

// redial makes a generation find the plugin's configuration anew whenever it is connected: what it offers can differ from before.
func (h *Host) redial(g *generation) {
	before := ""
	g.launch = func(ctx context.Context, p program) (*instance, error) {
		in, err := h.launcher.dial(ctx, p)
		if err != nil {
			return nil, err
		}
		config, err := h.configuration(in.description)
		if err != nil {
			return nil, in.fail(ctx, "configure", err)
		}
		g.config = config
		now := fingerprint(in.description)
		if before != "" && before != now {
			g.log.Info("plugin offers something else than before", "version", in.description.Version)
		}
		before = now
		return in, nil
	}
}

// dial connects to a plugin that runs by itself, and asks it to describe itself. The error is an *Error; nothing is left of the connection
// then.
func (l *launcher) dial(ctx context.Context, p program) (*instance, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.settings.StartTimeout, errSlow)
	defer cancel()
	in := &instance{program: p}
	conn, err := p.settings.reach(ctx)
	if err != nil {
		return nil, in.fail(ctx, "dial", err)
	}
	if err := in.use(conn); err != nil {
		return nil, in.fail(ctx, "dial", err)
	}
	in.description, err = in.rpc.Describe(ctx, l.hostVersion)
	if err != nil {
		return nil, in.fail(ctx, "describe", in.misunderstood(err))
	}
	if err := checkDescription(p.Name, in.description); err != nil {
		return nil, in.fail(ctx, "describe", err)
	}
	p.declared.Store(in.description.Permissions)
	return in, nil
}

// misunderstood says in better words than gRPC why a plugin that was reached does not describe itself.
func (in *instance) misunderstood(err error) error {
	if cause := in.link.cause(); cause != nil {
		return cause
	}
	if e := (*sdk.Error)(nil); errors.As(err, &e) && grpcstatus.Code(e.Err) == codes.Unimplemented {
		return fmt.Errorf("it does not speak towpath.plugin.v1: %w", err)
	}
	return err
}

// reach connects to the plugin, as far as that it is the one can be seen.
func (s Settings) reach(ctx context.Context) (net.Conn, error) {
	network, address, err := sdk.ListenAddress(s.Address)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		return reachSocket(ctx, address, os.Geteuid())
	}
	config, err := s.TLS.config(address)
	if err != nil {
		return nil, err
	}
	raw, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("mutual TLS with %s: %w", address, err)
	}
	return conn, nil
}

func (t DialTLS) config(address string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate of the host: %w", err)
	}
	authorities, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("authorities of the plugin's certificate: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool(),
		ServerName: t.ServerName, NextProtos: []string{"h2"}}
	if !config.RootCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("%s has no certificate in PEM", t.CA)
	}
	if config.ServerName == "" {
		config.ServerName, _, err = net.SplitHostPort(address)
	}
	return config, err
}

// reachSocket connects to a unix socket at which nobody listens, and to which nobody can connect, but root and uid.
func reachSocket(ctx context.Context, path string, uid int) (net.Conn, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := checkEntry(info.Mode(), owner(info), uid, false); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	by, err := listenerOf(conn.(*net.UnixConn), info)
	if err == nil && by != 0 && by != uid {
		err = fmt.Errorf("the program that listens at %s belongs to user %d", path, by)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

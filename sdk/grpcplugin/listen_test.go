package grpcplugin

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestParseListening(t *testing.T) {
	for args, says := range map[string]string{
		"-listen unix:///run/x.sock":                                    "",
		"--listen tcp://:7443 -certificate c -key k -client-ca a":       "",
		"-listen tcp://127.0.0.1:7443":                                  "always mutual TLS",
		"-listen tcp://127.0.0.1:7443 -certificate c -key k":            "always mutual TLS",
		"-listen unix:///run/x.sock -certificate c -key k -client-ca a": "are for tcp",
		"-listen 7443":                     "-listen: ",
		"serve":                            `"serve" is not expected`,
		"-listen unix:///run/x.sock serve": `"serve" is not expected`,
		"-port 7443":                       "flag provided but not defined",
		"-help":                            flag.ErrHelp.Error(),
	} {
		var help strings.Builder
		_, err := parseListening(sdk.Plugin{Name: "x"}, strings.Fields(args), &help)
		switch {
		case says == "" && err != nil, says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: %v, not %q", args, err, says)
		case args == "-help" && !strings.Contains(help.String(), "-client-ca"):
			t.Errorf("help: %s", help.String())
		}
	}
}

func TestFilesForListening(t *testing.T) {
	if _, _, err := (listening{"tcp://127.0.0.1:0", "/no/c", "/no/k", "/no/a"}).open(); err == nil || !strings.Contains(err.Error(), "-certificate") {
		t.Errorf("files that are not there: %v", err)
	}
}

// A socket is its user's alone. One that was left by a process that was killed is taken over, one that is in use is not.
func TestListenUnix(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("a second listener: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = listenUnix(path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a file in the way: %v", err)
	}
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// alone has a plugin live on its own, and returns what dials it. It ends when end is called, or with the test.
func alone(t *testing.T, p sdk.Plugin) (dial func() (*Client, *grpc.ClientConn), end func()) {
	t.Helper()
	dir := shortDir(t)
	l, err := listenUnix(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serveHosts(ctx, p, l, dir, nil) }()
	ended := false
	end = func() {
		cancel()
		if !ended {
			ended = true
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(end)
	return func() (*Client, *grpc.ClientConn) {
		conn, err := grpc.NewClient("unix:"+l.Addr().String(), DialOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return NewClient(conn), conn
	}, end
}

// Hosts share a plugin's configuration. Another one is taken when no host has the former any more, and no flow.
func TestHostsShareAPlugin(t *testing.T) {
	memory := &sdktest.Memory{}
	memory.Put("a", []byte("a"))
	var configs []sdk.Config
	p := memory.Plugin()
	p.Configure = func(_ context.Context, c sdk.Config) error {
		if string(c.JSON) == `"bad"` {
			return sdk.InvalidFields([]sdk.FieldError{{Field: "x", Message: "is bad"}})
		}
		configs = append(configs, c)
		return nil
	}
	dial, _ := alone(t, p)
	first, firstConn := dial()
	second, secondConn := dial()
	third, _ := dial()
	configure := func(c *Client, json string) error {
		return c.Configure(t.Context(), sdk.Config{JSON: []byte(json), ScratchDir: "/host's"})
	}
	if _, err := third.Describe(t.Context(), "test"); err != nil {
		t.Errorf("describe: %v", err)
	}
	if h, err := third.Health(t.Context()); err != nil || !h.Serving {
		t.Errorf("health: %+v, %v", h, err)
	}
	for what, err := range map[string]error{
		"validate": third.Source(sdktest.MemoryType).Validate(t.Context(), memory.Address("")),
		"read":     readAll(t, third, memory.Address("")),
	} {
		if e := sdk.AsError(err); err == nil || e.Code != sdk.Unavailable || !e.Retryable || !strings.Contains(e.Error(), "has not configured") {
			t.Errorf("%s before a configuration: %v", what, err)
		}
	}
	if err := configure(first, `"bad"`); err == nil || sdk.AsError(err).Code != sdk.Invalid {
		t.Errorf("a bad configuration: %v", err)
	}
	for _, c := range []*Client{first, second, first} {
		if err := configure(c, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := readAll(t, second, memory.Address("")); err != nil {
		t.Error(err)
	}
	if len(configs) != 1 || configs[0].ScratchDir == "" || configs[0].ScratchDir == "/host's" {
		t.Errorf("the plugin got %+v", configs)
	}
	if err := configure(third, "2"); err == nil || !strings.Contains(err.Error(), "in use with another configuration") || !sdk.AsError(err).Retryable {
		t.Errorf("another configuration: %v", err)
	}
	if _, err := first.Drain(t.Context(), 0); err == nil || sdk.AsError(err).Code != sdk.Unsupported {
		t.Errorf("drain: %v", err)
	}
	firstConn.Close()
	secondConn.Close()
	for err := configure(third, "2"); err != nil; err = configure(third, "2") { // until their ends have been noticed
		if t.Context().Err() != nil || !sdk.AsError(err).Retryable {
			t.Fatal(err)
		}
	}
	if len(configs) != 2 || string(configs[1].JSON) != "2" {
		t.Errorf("the plugin got %+v", configs)
	}
}

// readAll reads all that is at an address.
func readAll(t *testing.T, c *Client, a sdk.DataAddress) error {
	t.Helper()
	stream, err := c.Source(a.Type).Read(t.Context(), sdk.ReadOpen{Address: a})
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		f, err := stream.Recv()
		if err != nil {
			return err
		}
		_, last := f.(*sdk.End)
		sdk.Release(f)
		if last {
			return nil
		}
	}
}

// A plugin that is asked to end lets its flows end.
func TestAloneUntilFlowsEnd(t *testing.T) {
	begun, let := make(chan struct{}), make(chan struct{})
	memory := &sdktest.Memory{Reading: func(context.Context, sdktest.Point) error {
		select {
		case begun <- struct{}{}:
			<-let
		case <-let:
		}
		return nil
	}}
	memory.Put("a", sdktest.Pattern(1, 1<<20))
	dial, end := alone(t, memory.Plugin())
	c, conn := dial()
	if err := c.Configure(t.Context(), sdk.Config{}); err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() { read <- readAll(t, c, memory.Address("")) }()
	<-begun
	ended := make(chan struct{})
	go func() { end(); close(ended) }()
	for draining := false; !draining; {
		h, err := pluginv1.NewPluginClient(conn).Health(t.Context(), &pluginv1.HealthRequest{})
		if err != nil {
			t.Fatal(err)
		}
		draining = h.Status == pluginv1.HealthStatus_HEALTH_STATUS_DRAINING
	}
	if err := readAll(t, c, memory.Address("")); err == nil || !sdk.AsError(err).Retryable {
		t.Errorf("a new flow: %v", err)
	}
	close(let)
	if err := <-read; err != nil {
		t.Errorf("the flow that ran: %v", err)
	}
	<-ended
}

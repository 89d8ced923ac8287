package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// The process's own standard files. go-plugin puts pipes in the place of os.Stdout and os.Stderr when it serves.
var (
	stdout = os.NewFile(1, "stdout")
	stderr = os.NewFile(2, "stderr")
)

// garbage prints what is no handshake, and more than a host wants to read of it.
func garbage(sdk.Plugin) {
	fmt.Fprint(stdout, "\x00\xff|||1|2|3\nGIF89a\n")
	for {
		fmt.Fprintln(stdout, strings.Repeat("\x01\xfe", 5000))
	}
}

// chatty prints before it says where it listens, lines that no scanner takes included, and never stops once it is configured.
func chatty(p sdk.Plugin) {
	long := strings.Repeat("x", 100<<10)
	fmt.Fprintln(stdout, "Loading | modules | please | wait")
	fmt.Fprintln(stdout, long)
	p.Configure = func(context.Context, sdk.Config) error {
		go func() {
			for {
				fmt.Fprintln(stdout, long)
			}
		}()
		return nil
	}
	grpcplugin.Serve(p)
}

// stderrTraps prints the lines that make go-plugin's parser panic, and one that is far too long.
func stderrTraps(p sdk.Plugin) {
	fmt.Fprintln(os.Stderr, `{"@message":1}`)
	fmt.Fprintln(os.Stderr, `{"@timestamp":5}`)
	fmt.Fprintln(os.Stderr, `{"@message":"m","@level":7,"@timestamp":5,"plugin":"forged"}`)
	fmt.Fprintln(os.Stderr, `{"@message":`)
	fmt.Fprintln(os.Stderr, strings.Repeat("z", 10<<20))
	fmt.Fprintln(os.Stderr, "end of traps")
	grpcplugin.Serve(p)
}

// stderrFlood never stops to print.
func stderrFlood(p sdk.Plugin) {
	line := []byte(strings.Repeat("complaint ", 20) + "\n")
	go func() {
		for {
			stderr.Write(line)
		}
	}()
	grpcplugin.Serve(p)
}

func printsNicely(p sdk.Plugin) {
	fmt.Fprintln(os.Stderr, `{"@level":"warn","@message":"low space","@module":"disk","@timestamp":"2026-01-02T03:04:05.000000Z","free":12}`)
	fmt.Fprintln(os.Stderr, "[ERROR] plain trouble")
	fmt.Fprintln(os.Stderr, "plain words")
	grpcplugin.Serve(p)
}

// oldProtocol speaks a version that no host does.
func oldProtocol(sdk.Plugin) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  grpcplugin.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{99: {grpcplugin.Name: &rawPlugin{}}},
		GRPCServer:       grpcplugin.NewServer,
	})
}

// elsewhere claims to listen where its host would reach something else.
func elsewhere(sdk.Plugin) {
	fmt.Fprintln(stdout, "1|1|unix|/run/docker.sock|grpc")
	hang()
}

// deaf says where it listens and never answers there.
func deaf(sdk.Plugin) {
	path := filepath.Join(os.Getenv(plugin.EnvUnixSocketDir), "deaf")
	listener, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	fmt.Fprintf(stdout, "1|%d|unix|%s|grpc\n", grpcplugin.Version, path)
	hang()
}

func refusesConfig(p sdk.Plugin) {
	p.Configure = func(context.Context, sdk.Config) error {
		return sdk.InvalidFields([]sdk.FieldError{{Field: "root", Message: "is required"}})
	}
	grpcplugin.Serve(p)
}

// stubborn takes no hint to end.
func stubborn(p sdk.Plugin) {
	go func() {
		for range time.Tick(time.Millisecond) {
			signal.Ignore(syscall.SIGTERM)
		}
	}()
	grpcplugin.Serve(p)
	hang()
}

// breeder leaves a child in its process group.
func breeder(p sdk.Plugin) {
	breed(nil)
	grpcplugin.Serve(p)
}

// escapingChild leaves a child that has left its process group.
func escapingChild(p sdk.Plugin) {
	breed(&syscall.SysProcAttr{Setsid: true})
	grpcplugin.Serve(p)
}

// breed starts a child that outlives its parent and holds its stderr, and says which.
func breed(attributes *syscall.SysProcAttr) {
	child := exec.Command("sleep", "600")
	child.Stderr, child.SysProcAttr = stderr, attributes
	if err := child.Start(); err != nil {
		panic(err)
	}
	fmt.Fprintf(stderr, `{"@message":"bred","child":%d}`+"\n", child.Process.Pid)
}

// freeze stops the process. The signal may take a moment to reach all threads.
func freeze() {
	syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	hang()
}

// hang does nothing for longer than any host waits.
func hang() { time.Sleep(24 * time.Hour) }

func exit() { os.Exit(4) }

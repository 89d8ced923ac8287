package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
)

// defaultConfig is read where -config is not given.
const defaultConfig = "towpath.hcl"

func configFlag(fs *flag.FlagSet) *string {
	path := defaultConfig
	if env := os.Getenv("TOWPATH_CONFIG"); env != "" {
		path = env
	}
	return fs.String("config", path, "HCL `file`, or directory of *.hcl files; also from the environment variable TOWPATH_CONFIG")
}

func validateCommand() command {
	return command{
		name: "validate", short: "check a configuration without serving",
		long: `
Reads a configuration, asks the plugins that it names for their schemas, and checks everything against them:
unknown attributes, missing plugins, types that no plugin offers, addresses that a plugin's schema refuses.
Errors go to standard error as file:line:column: what is wrong. Nothing is started but the plugins, for the
moment of describing themselves, and only those that the trust policy allows to be executed.

Exit code 0 if the configuration is good, 3 if it is not.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path := configFlag(fs)
			return func(ctx context.Context, _ []string, stdout, stderr io.Writer) error {
				cfg, err := config.Load(*path)
				if err != nil {
					return err
				}
				decided, done := decisionsOf(ctx, cfg, *path)
				defer done()
				plugins, err := newPluginHost(cfg, decided, slog.New(slog.DiscardHandler), nil)
				if err != nil {
					return err
				}
				defer closeQuietly(plugins)
				if err := check(ctx, cfg, plugins); err != nil {
					return err
				}
				fmt.Fprintf(stdout, "%s is valid: %d datasets, %d profiles\n", *path, len(cfg.Datasets), len(cfg.Profiles))
				return nil
			}
		},
	}
}

// check compares a configuration with what the plugins at hand say of themselves.
func check(ctx context.Context, cfg *config.Config, plugins *pluginhost.Host) error {
	descriptions, launching := plugins.Descriptions(ctx)
	// Why a plugin could not be asked explains what the configuration then lacks.
	if err := cfg.Check(descriptions); err != nil {
		return errors.Join(launching, err)
	}
	return launching
}

// newPluginHost returns a host for the plugins of a configuration. decided is what was decided about them; nil for nothing.
func newPluginHost(cfg *config.Config, decided lookup, logger *slog.Logger, metrics prometheus.Registerer) (*pluginhost.Host, error) {
	publishers := map[string]string{}
	for _, p := range cfg.Plugins.Publishers {
		publishers[p.Name] = p.Key
	}
	settings := map[string]pluginhost.Settings{}
	for _, p := range cfg.Plugins.Declared {
		settings[p.Name] = pluginhost.Settings{
			Binary: p.Binary, SHA256: p.SHA256, Environment: p.Environment, PassEnvironment: p.PassEnvironment,
			StartTimeout: p.StartTimeout, DrainTimeout: p.DrainTimeout, StopTimeout: p.StopTimeout,
			Lane: pluginhost.Lane(p.Lane), LaneBuffer: int(p.LaneBuffer), MTLS: pluginhost.MTLS(p.MTLS),
			ServerSideCopy: p.ServerSideCopy, Publisher: p.Publisher,
			Allowed: confine.Allowed{Limits: confine.Limits(p.Limits), Environment: p.Permissions.Environment, Read: p.Permissions.Read,
				Write: p.Permissions.Write, Connect: p.Permissions.Connect},
		}
	}
	return pluginhost.New(pluginhost.Options{
		Directory: cfg.Plugins.Directory, Trust: pluginhost.Trust(cfg.Plugins.Trust), Plugins: settings,
		Publishers: publishers, Decisions: decided,
		RuntimeDir: runtimeDir(cfg.DataPlane.DataDir), HostVersion: version, Logger: logger, Registerer: metrics,
	})
}

// runtimeDir is the folder for sockets and scratch files: beside the state, unless the path would be too long for a socket.
func runtimeDir(dataDir string) string {
	const longest = 73
	if dir := filepath.Join(dataDir, "run"); len(dir) <= longest {
		return dir
	}
	return ""
}

func closeQuietly(plugins *pluginhost.Host) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	plugins.Close(ctx)
}

func versionCommand() command {
	return command{
		name: "version", short: "print the version",
		long: "Prints the version of the host, of Go, and of the plugin protocol.",
		flags: func(*flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			return func(_ context.Context, _ []string, stdout, _ io.Writer) error {
				fmt.Fprintln(stdout, versionLine())
				return nil
			}
		},
	}
}

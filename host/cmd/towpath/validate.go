package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/sdk"
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
Errors go to standard error as file:line:column: what is wrong, warnings as the log of the host has them. Nothing is started but the plugins that the host
has not described before, for the moment of describing themselves, and only those that the trust policy allows
to be executed.

Exit code 0 if the configuration is good, 3 if it is not.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path := configFlag(fs)
			return func(ctx context.Context, _ []string, stdout, stderr io.Writer) error {
				cfg, err := config.Load(*path)
				if err != nil {
					return err
				}
				warn(cfg, newLogger(cfg.Telemetry, stderr))
				plugins, err := newPluginHost(cfg, peekOptions(ctx, cfg))
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
	if launching == nil {
		return cfg.Check(descriptions)
	}
	candidates, err := plugins.Discover()
	if err != nil {
		return err
	}
	// Why a plugin could not be asked explains what the configuration then lacks.
	later, err := cfg.CheckSome(descriptions, unasked(candidates, descriptions)...)
	return errors.Join(launching, later, err)
}

// unasked names the plugins whose files are there, but did not describe themselves.
func unasked(candidates []pluginhost.Candidate, descriptions []sdk.Description) (names []string) {
	for _, c := range candidates {
		if c.Status != pluginhost.StatusMissing && !described(c, descriptions) {
			names = append(names, c.Name)
		}
	}
	return names
}

func described(c pluginhost.Candidate, descriptions []sdk.Description) bool {
	return slices.ContainsFunc(descriptions, func(d sdk.Description) bool { return d.Name == c.Name })
}

// checkSome is check for a host that waits for plugins, see pluginhost.Host.Awaits, and for those that are dialled and not reached.
func checkSome(ctx context.Context, cfg *config.Config, plugins *pluginhost.Host, logger *slog.Logger) error {
	candidates, err := plugins.Discover()
	if err != nil {
		return err
	}
	descriptions, launching := plugins.Descriptions(ctx)
	var absent []string
	if launching != nil {
		absent = unasked(candidates, descriptions)
	}
	for _, c := range candidates {
		if plugins.Awaits(c) || c.Status == pluginhost.StatusDialled && !described(c, descriptions) {
			absent = append(absent, c.Name)
		}
	}
	later, err := cfg.CheckSome(descriptions, absent...)
	if launching != nil {
		return errors.Join(launching, later, err)
	}
	if later != nil {
		for what := range strings.Lines(later.Error()) {
			logger.Warn("some of the configuration does not work with the plugins that are there", "what", strings.TrimSpace(what))
		}
	}
	return err
}

// peekOptions are what a command knows of plugins that reads the store of a host and changes nothing there.
func peekOptions(ctx context.Context, cfg *config.Config) pluginhost.Options {
	return pluginhost.Options{Cache: peekDescriptions(ctx, cfg), Decisions: peekDecisions(ctx, cfg)}
}

// newPluginHost adds to o what the configuration says.
func newPluginHost(cfg *config.Config, o pluginhost.Options) (*pluginhost.Host, error) {
	settings := map[string]pluginhost.Settings{}
	for _, p := range cfg.Plugins.Declared {
		if p.Address != "" {
			settings[p.Name] = pluginhost.Settings{Address: p.Address, TLS: (*pluginhost.DialTLS)(p.TLS), StartTimeout: p.StartTimeout,
				DrainTimeout: p.DrainTimeout, ServerSideCopy: p.ServerSideCopy}
			continue
		}
		settings[p.Name] = pluginhost.Settings{
			Binary: p.Binary, SHA256: p.SHA256, Environment: p.Environment, PassEnvironment: p.PassEnvironment,
			StartTimeout: p.StartTimeout, DrainTimeout: p.DrainTimeout, StopTimeout: p.StopTimeout, HandoverTimeout: p.HandoverTimeout,
			Lane: pluginhost.Lane(p.Lane), LaneBuffer: int(p.LaneBuffer), MTLS: pluginhost.MTLS(p.MTLS),
			Isolation: pluginhost.Isolation(p.Isolation), MaxProcesses: p.MaxProcesses, QuarantineAfter: cmp.Or(p.QuarantineAfter, -1),
			ServerSideCopy: p.ServerSideCopy, Start: pluginhost.Start(p.Start), DrainBound: p.DrainBound, Publisher: p.Publisher,
			Allowed: confine.Allowed{Limits: confine.Limits(p.Limits), Environment: p.Permissions.Environment, Read: p.Permissions.Read,
				Write: p.Permissions.Write, Connect: p.Permissions.Connect},
		}
	}
	o.Publishers = map[string]string{}
	for _, p := range cfg.Plugins.Publishers {
		o.Publishers[p.Name] = p.Key
	}
	o.Directory, o.Trust, o.Plugins = cfg.Plugins.Directory, pluginhost.Trust(cfg.Plugins.Trust), settings
	o.RuntimeDir, o.HostVersion = runtimeDir(cfg.DataPlane.DataDir), version
	o.Keep = filepath.Join(cfg.DataPlane.DataDir, "plugins")
	return pluginhost.New(o)
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

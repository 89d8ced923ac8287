package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"path/filepath"
	"strings"

	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/host/schemadoc"
	"github.com/towpath-dataplane/towpath/sdk"
)

func pluginsDocsCommand() command {
	return command{
		name: "plugins docs", args: "NAME", short: "write a plugin's documentation as Markdown",
		long: `
Asks one plugin of a configuration's plugin directory what it is, and writes a page about it in Markdown: its
configuration, its types, and the properties of their data addresses. All of it comes from what the plugin declares.
A NAME with a separator, as ./towpath-plugin-acme, is the path of a binary instead, and needs no configuration.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path := configFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				d, err := describedPlugin(ctx, *path, args[0])
				if err != nil {
					return err
				}
				return schemadoc.Markdown(stdout, d)
			}
		},
	}
}

func pluginsSchemaCommand() command {
	return command{
		name: "plugins schema", args: "NAME", short: "write a plugin's schema as JSON Schema",
		long: `
Asks one plugin of a configuration's plugin directory what it is, and writes a JSON Schema (2020-12), for editors and
for whoever checks data addresses. The top is the plugin's configuration; "#/$defs/source.TYPE" and "#/$defs/sink.TYPE"
are the data addresses of each type, as Towpath's APIs and files have them: type, endpoint, properties. A NAME with a
separator, as ./towpath-plugin-acme, is the path of a binary instead, and needs no configuration.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path := configFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				d, err := describedPlugin(ctx, *path, args[0])
				if err != nil {
					return err
				}
				return printJSON(stdout, schemadoc.JSON(d))
			}
		},
	}
}

// describedPlugin returns what a plugin that may be executed says of itself. A name with a separator is the path of a binary, which its
// author has just built.
func describedPlugin(ctx context.Context, path, name string) (sdk.Description, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return describedBinary(ctx, name)
	}
	plugins, err := examine(ctx, path, name)
	if err != nil {
		return sdk.Description{}, err
	}
	p := plugins[0]
	if p.Description == nil {
		return sdk.Description{}, errors.New("the plugin was not executed, so nothing is known about it: " + p.Reason)
	}
	return *p.Description, nil
}

func describedBinary(ctx context.Context, path string) (sdk.Description, error) {
	binary, err := filepath.Abs(path)
	if err != nil {
		return sdk.Description{}, err
	}
	name := strings.TrimPrefix(filepath.Base(binary), "towpath-plugin-")
	host, err := pluginhost.New(pluginhost.Options{Trust: pluginhost.TrustOff, HostVersion: version,
		Plugins: map[string]pluginhost.Settings{name: {Binary: binary}}})
	if err != nil {
		return sdk.Description{}, err
	}
	defer closeQuietly(host)
	return host.Describe(ctx, name)
}

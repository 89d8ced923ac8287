package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/sdk"
)

func pluginsTrustCommand() command {
	return command{
		name: "plugins trust", args: "NAME", short: "decide to trust a plugin's file as it is now",
		long: `
Records that the file which a plugin has now may be executed, where the configuration has trust = "ask". The
decision is for the content of that very file: another version, or a changed byte, needs another decision.
"towpath plugins diff" shows what a new version changes.

A running host is asked, and launches the plugin at once. If none runs, -config says whose store to write to.

  towpath plugins trust file -sha256 $(sha256sum towpath-plugin-file | cut -c1-64) -config towpath.hcl`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			digest := fs.String("sha256", "", "`digest` that the file has to have")
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				trust, done, err := openTrust(ctx, to, args[0])
				if err != nil {
					return err
				}
				defer done()
				d, err := trust.Trust(ctx, args[0], *digest)
				if err != nil {
					return notFound(err)
				}
				if *asJSON {
					return printJSON(stdout, d)
				}
				printDecision(stdout, *d)
				return nil
			}
		},
	}
}

// notFound is an error that is shown as that if there is no such plugin.
func notFound(err error) error {
	if e := (*sdk.Error)(nil); errors.As(err, &e) && e.Code == sdk.NotFound {
		return errNotFound{err}
	}
	return err
}

func printDecision(w io.Writer, d admin.Decision) {
	fmt.Fprintf(w, "plugin %q is trusted: %s, sha256 %s\n", d.Plugin, d.Path, d.SHA256)
	if d.Problem != "" {
		fmt.Fprintf(w, "It cannot be used yet: %s\n", d.Problem)
	}
}

func pluginsDistrustCommand() command {
	return command{
		name: "plugins distrust", args: "NAME", short: "take back the decision to trust a plugin",
		long: `
Takes back what "towpath plugins trust" has decided, and shows what that was. A running host stops the plugin:
its flows come to rest, and go on when it is trusted again.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to := addAdminFlags(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				trust, done, err := openTrust(ctx, to, args[0])
				if err != nil {
					return err
				}
				defer done()
				was, err := trust.Decided(ctx, args[0])
				if err != nil {
					return err
				}
				there, err := trust.Distrust(ctx, args[0])
				if err != nil {
					return err
				}
				if !there || was == nil {
					return errNotFound{fmt.Errorf("nothing is decided about plugin %q", args[0])}
				}
				fmt.Fprintf(stdout, "plugin %q is trusted no more: it was since %s, %s, sha256 %s\n", args[0],
					when(&was.At), was.Path, was.SHA256)
				return nil
			}
		},
	}
}

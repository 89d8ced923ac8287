package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/towpath-dataplane/towpath/host/scaffold"
)

func pluginsNewCommand() command {
	return command{
		name: "plugins new", args: "NAME", short: "write a new plugin in Go, with tests of its own",
		long: `
Writes a Go module with a plugin that compiles, has tests of its own and passes "towpath plugins verify": a source, a
sink or both, that read and write files in a folder, to be replaced by what the plugin is about. README.md in it says
what is where; "make test" and "make verify" run its tests.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			o := scaffold.Options{Version: version}
			fs.BoolVar(&o.Source, "source", false, "it reads")
			fs.BoolVar(&o.Sink, "sink", false, "it writes")
			fs.BoolVar(&o.Records, "records", false, "parts carry records, not bytes")
			fs.StringVar(&o.Dir, "dir", "", "`folder` to write to; towpath-plugin-NAME if not given")
			fs.StringVar(&o.Module, "module", "", "`path` of the Go module; example.com/towpath-plugin-NAME if not given")
			fs.StringVar(&o.SDK, "sdk", "", "`checkout` of Towpath to build against, in place of the published SDK")
			return func(_ context.Context, args []string, stdout, stderr io.Writer) error {
				if o.Name = args[0]; !o.Source && !o.Sink {
					return wrongUsage(stderr, "plugins new", "takes -source, -sink or both")
				}
				o.Dir = cmp.Or(o.Dir, "towpath-plugin-"+o.Name)
				names, err := scaffold.Write(o)
				if err != nil {
					return err
				}
				for _, name := range names {
					fmt.Fprintf(stdout, "%s/%s\n", o.Dir, name)
				}
				fmt.Fprintf(stdout, "\nGo on with:  cd %s && make test verify\n", o.Dir)
				return nil
			}
		},
	}
}

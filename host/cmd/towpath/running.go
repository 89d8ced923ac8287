package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
)

func pluginsReleaseCommand() command {
	return command{
		name: "plugins release", args: "NAME", short: "let a plugin out of quarantine",
		long: `
Has a running host launch a plugin again that crashed again and again, and that it does not launch by itself any
more. Flows that wait for the plugin go on at once. "plugins describe" shows why it is in quarantine. To replace
its file, or "plugins rescan", has the same effect.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				var p admin.Plugin
				if _, err := to.call(ctx, http.MethodPost, "/api/v1/plugins/"+url.PathEscape(args[0])+"/release", nil, nil, &p); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, p)
				}
				fmt.Fprintf(stdout, "plugin %q is released: %s\n", p.Name, p.State)
				if p.Problem != "" {
					fmt.Fprintln(stdout, p.Problem)
				}
				return nil
			}
		},
	}
}

// askingTimeout bounds what a command waits for a host that may not run.
const askingTimeout = 2 * time.Second

// addRunning adds what a host that runs with a configuration says about the plugins in it. If none does, there is nothing to add.
func addRunning(ctx context.Context, path string, plugins []admin.Plugin) {
	ctx, cancel := context.WithTimeout(ctx, askingTimeout)
	defer cancel()
	var list admin.PluginList
	if err := adminAt(path).get(ctx, "/api/v1/plugins", nil, &list); err != nil {
		return
	}
	for _, r := range list.Plugins {
		for i, p := range plugins {
			if r.Name != p.Name || r.Path != p.Path || r.Generation == "" || r.Generation != p.SHA256 {
				continue
			}
			p.Generation, p.State, p.Since, p.PID, p.Restarts, p.Launches = r.Generation, r.State, r.Since, r.PID, r.Restarts, r.Launches
			p.LaunchSeconds, p.Flows, p.LastExit, p.Isolation = r.LaunchSeconds, r.Flows, r.LastExit, r.Isolation
			p.Processes, p.Quarantine, p.Suspects = r.Processes, r.Quarantine, r.Suspects
			if p.Problem == "" {
				p.Problem = r.Problem
			}
			plugins[i] = p
		}
	}
}

// printRunning shows what a host says of a plugin that it uses.
func printRunning(w io.Writer, p admin.Plugin) error {
	if p.State == "" {
		return nil
	}
	fmt.Fprintf(w, "\nIn the host that runs it is %s since %s, launched %d times, restarted %d times\n", p.State, when(&p.Since), p.Launches, p.Restarts)
	if q := p.Quarantine; q != nil {
		fmt.Fprintf(w, "  It crashed %d times within %s and is not launched any more. %s.\n", q.Crashes,
			(time.Duration(q.WithinSeconds * float64(time.Second))).Round(time.Millisecond), upperFirst(q.Do))
	}
	if e := p.LastExit; e != nil {
		fmt.Fprintf(w, "  Its last process ended %s: %s", when(&e.At), e.Status)
		if e.Reason != "" {
			fmt.Fprintf(w, " (%s)", e.Reason)
		}
		fmt.Fprintln(w)
		for _, line := range e.Stderr {
			fmt.Fprintf(w, "    | %s\n", plain(line))
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(p.Processes) > 0 {
		row(t, "  PROCESS", "FOR", "STATE", "FLOWS")
	}
	for _, one := range p.Processes {
		row(t, fmt.Sprintf("  %d", one.PID), one.For, one.State, one.Flows)
	}
	for _, s := range p.Suspects {
		row(t, "  suspect", s.For, "in "+s.Process, fmt.Sprintf("%d crashes%s", s.Crashes, s.Place))
	}
	return t.Flush()
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

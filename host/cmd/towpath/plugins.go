package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/sdk"
)

func pluginsListCommand() command {
	return command{
		name: "plugins list", short: "list the files in the plugin directory and what they offer",
		long: `
Lists the plugin directory of a configuration: for each file whether the trust policy allows it to be executed
and, if not, why; for each that it allows, what it reads and writes. Files that are not allowed are never
executed, those that the host has described before neither. Plugins that are dialled are asked at their addresses.
If a host runs with the configuration, it is asked how they are.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path, asJSON := configFlag(fs), jsonFlag(fs)
			return func(ctx context.Context, _ []string, stdout, stderr io.Writer) error {
				plugins, err := examine(ctx, *path, "")
				if err != nil {
					return err
				}
				if *asJSON {
					for i := range plugins {
						plugins[i].Description, plugins[i].Confinement = nil, nil
					}
					return printJSON(stdout, admin.PluginList{Plugins: plugins})
				}
				return printPlugins(stdout, plugins)
			}
		},
	}
}

func pluginsDescribeCommand() command {
	return command{
		name: "plugins describe", args: "NAME", short: "show what a plugin offers and how it is configured",
		long: `
Shows what one plugin of a configuration's plugin directory is: its types, the properties of their data
addresses, and the attributes of its configuration block; how it was built, if it is a program in Go; and what it
may do: what it declares that it needs, what its plugin block allows, and what of that is in force on this
machine, by what, or why not. If the host has not described it before, and the policy allows it, it is executed
for that. A plugin that is dialled is asked at its address, and kept to nothing on this machine. If a host runs
with the configuration, it is asked how the plugin is: its processes, how the last one ended, and whether it is in
quarantine.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path, asJSON := configFlag(fs), jsonFlag(fs)
			return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
				plugins, err := examine(ctx, *path, args[0])
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, plugins[0])
				}
				return printPlugin(stdout, plugins[0])
			}
		},
	}
}

func jsonFlag(fs *flag.FlagSet) *bool { return fs.Bool("json", false, "print JSON") }

// examine describes the plugins of a configuration's directory, or the one with a name.
func examine(ctx context.Context, path, name string) ([]admin.Plugin, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	host, err := newPluginHost(cfg, peekOptions(ctx, cfg))
	if err != nil {
		return nil, err
	}
	defer closeQuietly(host)
	candidates, err := host.Discover()
	if err != nil {
		return nil, err
	}
	out := []admin.Plugin{}
	for _, c := range candidates {
		if name != "" && c.Name != name {
			continue
		}
		p, declared := showCandidate(c), (*sdk.Permissions)(nil)
		if c.Status == pluginhost.StatusReady || c.Status == pluginhost.StatusDialled {
			d, err := host.Describe(ctx, c.Name)
			if err != nil && name != "" {
				return nil, err
			}
			if err != nil {
				p.Problem = err.Error()
			} else {
				p, declared = describe(p, d), d.Permissions
				probation, rollback := host.Standing(c)
				p.Probation, p.RolledBack = (*admin.Probation)(probation), (*admin.RolledBack)(rollback)
			}
		}
		if name != "" {
			p.Build, p.Confinement = readBuild(c.Path), showConfinement(host.Confinement(c.Name, declared))
		}
		out = append(out, p)
	}
	if name != "" && len(out) == 0 {
		return nil, errNotFound{fmt.Errorf("there is no plugin %q in %s", name, cfg.Plugins.Directory)}
	}
	noteConflicts(out)
	addRunning(ctx, path, out)
	return out, nil
}

// noteConflicts says of plugins that offer the same type that they do.
func noteConflicts(plugins []admin.Plugin) {
	by := map[string][]string{}
	each := func(p admin.Plugin, f func(offer string)) {
		for _, t := range p.Sources {
			f(fmt.Sprintf("source type %q", t))
		}
		for _, t := range p.Sinks {
			f(fmt.Sprintf("sink type %q", t))
		}
	}
	for _, p := range plugins {
		each(p, func(offer string) { by[offer] = append(by[offer], p.Name) })
	}
	for i, p := range plugins {
		each(p, func(offer string) {
			if len(by[offer]) > 1 && p.Problem == "" {
				plugins[i].Problem = fmt.Sprintf("the %s is offered by %s: only the first that a host finds is used", offer,
					strings.Join(by[offer], " and "))
			}
		})
	}
}

func pluginsRescanCommand() command {
	return command{
		name: "plugins rescan", short: "have a running host look at its plugin directory now",
		long: `
Has a running host look at its plugin directory: it takes into use what is new there and allowed, withdraws what
is gone, and tries again what failed before. Lists the plugins when that is done. A host watches the directory by
itself, unless its configuration says otherwise; SIGHUP has the same effect.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			return func(ctx context.Context, _ []string, stdout, _ io.Writer) error {
				var list admin.PluginList
				if _, err := to.call(ctx, http.MethodPost, "/api/v1/plugins", nil, nil, &list); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, list)
				}
				return printPlugins(stdout, list.Plugins)
			}
		},
	}
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func printPlugins(w io.Writer, plugins []admin.Plugin) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "NAME", "VERSION", "STATE", "READS", "WRITES", "SHA256", "NOTE")
	for _, p := range plugins {
		note := p.Problem
		if note == "" {
			note = noteStanding(p)
		}
		switch {
		case note != "":
		case p.Address != "":
			note = p.Address
		case p.Status != string(pluginhost.StatusReady):
			note = p.Reason
		}
		row(t, p.Name, dash(p.Version), stateOf(p), dash(strings.Join(p.Sources, ",")), dash(strings.Join(p.Sinks, ",")),
			dash(fmt.Sprintf("%.12s", p.SHA256)), note)
	}
	return t.Flush()
}

// stateOf is the state of a plugin that a host uses or may use, and otherwise whether its file may be executed.
func stateOf(p admin.Plugin) string {
	if p.State != "" && (p.Generation != "" || p.Status == string(pluginhost.StatusReady)) {
		return p.State
	}
	return p.Status
}

// noteStanding says what a build has to prove, or that it was rolled back. "" if neither.
func noteStanding(p admin.Plugin) string {
	switch b, r := p.Probation, p.RolledBack; {
	case b != nil:
		return fmt.Sprintf("on probation since %s: should it move no data, %s is used again", stampText(b.Since), buildText(b.Version, b.SHA256))
	case r != nil && r.SHA256 == p.SHA256:
		return fmt.Sprintf("rolled back on %s: %s", stampText(r.At), r.Why)
	case r != nil:
		return fmt.Sprintf("%s was rolled back on %s: %s", buildText(r.Version, r.SHA256), stampText(r.At), r.Why)
	}
	return ""
}

func stampText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func buildText(version, digest string) string {
	return fmt.Sprintf("version %s (%.12s)", dash(version), digest)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printPlugin(w io.Writer, p admin.Plugin) error {
	fmt.Fprintf(w, "%s %s\n", p.Name, p.Version)
	if p.Address != "" {
		fmt.Fprintf(w, "  address %s\n  status  %s", p.Address, p.Status)
	} else {
		fmt.Fprintf(w, "  file    %s\n  sha256  %s\n  status  %s", p.Path, p.SHA256, p.Status)
	}
	if p.Reason != "" {
		fmt.Fprintf(w, " (%s)", p.Reason)
	}
	fmt.Fprintln(w)
	if note := noteStanding(p); note != "" {
		fmt.Fprintf(w, "  note    %s\n", note)
	}
	printBuild(w, p.Build)
	if err := printRunning(w, p); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nOn this machine it is kept to")
	if err := printConfinement(w, p.Confinement); err != nil {
		return err
	}
	if p.Description == nil {
		return errors.New("the plugin was not executed, so nothing more is known about it")
	}
	d := p.Description
	fmt.Fprintf(w, "\n%s\n", d.Documentation)
	fmt.Fprintf(w, "\nConfiguration: plugin %q { config { ... } }\n", p.Name)
	printSchema(w, d.Config)
	for _, t := range d.Sources {
		printType(w, "Source", t)
	}
	for _, t := range d.Sinks {
		printType(w, "Sink", t)
	}
	return nil
}

func printBuild(w io.Writer, b *admin.Build) {
	if b == nil {
		return
	}
	fmt.Fprintf(w, "  build   %s", b.Go)
	if b.Module != "" {
		fmt.Fprintf(w, ", %s %s", b.Module, b.Version)
	}
	if b.Revision != "" {
		fmt.Fprintf(w, ", revision %s", revisionOf(b))
	}
	fmt.Fprintln(w)
}

func revisionOf(b *admin.Build) string {
	if b.Modified {
		return b.Revision + " with changes"
	}
	return b.Revision
}

func printConfinement(w io.Writer, items []admin.Confinement) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "  ITEM", "DECLARED", "ALLOWED", "KEPT TO", "IN FORCE", "HOW")
	free, why := []string{}, "" // what nobody says anything about takes one line
	for _, i := range items {
		if !i.InForce && i.Declared+i.Allowed+i.Confined == "" && (why == "" || why == i.How) {
			free, why = append(free, i.Name), i.How
			continue
		}
		inForce := "no"
		if i.InForce {
			inForce = "yes"
		}
		row(t, "  "+i.Name, dash(i.Declared), dash(i.Allowed), dash(i.Confined), inForce, i.How)
	}
	err := t.Flush()
	if len(free) > 0 {
		fmt.Fprintf(w, "  %s: %s\n", strings.Join(free, ", "), why)
	}
	return err
}

// traits are what a type of data address can do.
func traits(t sdk.AddressType) (all []string) {
	for _, trait := range []struct {
		has  bool
		name string
	}{{t.Resumable, "resumes inside a part"}, {t.NonFinite, "has no end"}, {t.Records, "carries records"}, {t.Provisions, "hands out addresses"},
		{t.Copies, "can be copied by its store"}, {t.Proxies, "hands requests on"}} {
		if trait.has {
			all = append(all, trait.name)
		}
	}
	return all
}

func printType(w io.Writer, role string, t sdk.AddressType) {
	fmt.Fprintf(w, "\n%s type %q", role, t.Type)
	if all := traits(t); len(all) > 0 {
		fmt.Fprintf(w, " (%s)", strings.Join(all, ", "))
	}
	fmt.Fprintf(w, "\n%s\n", t.Documentation)
	printSchema(w, t.Address)
}

func kindName(f sdk.Field) string { return string(cmp.Or(f.Kind, sdk.String)) }

func fieldName(f sdk.Field) string {
	if f.Prefix {
		return f.Name + "..."
	}
	return f.Name
}

// fieldNotes are what holds for the value of a field, besides its kind.
func fieldNotes(f sdk.Field) (notes []string) {
	if f.Required {
		notes = append(notes, "required")
	}
	if f.Sensitive {
		notes = append(notes, "secret")
	}
	if f.Default != "" {
		notes = append(notes, "default "+f.Default)
	}
	if len(f.OneOf) > 0 {
		notes = append(notes, "one of "+strings.Join(f.OneOf, ", "))
	}
	return notes
}

func printSchema(w io.Writer, s sdk.Schema) {
	if len(s.Fields) == 0 {
		fmt.Fprintln(w, "  nothing")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range s.Fields {
		documentation := f.Documentation
		if notes := fieldNotes(f); len(notes) > 0 {
			documentation += " (" + strings.Join(notes, "; ") + ")"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", fieldName(f), kindName(f), documentation)
	}
	t.Flush()
	if s.Open {
		fmt.Fprintln(w, "  and any other property")
	}
}

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/sdk"
)

func pluginsDiffCommand() command {
	return command{
		name: "plugins diff", args: "NAME [FILE]", short: "show what an upgrade of a plugin changes",
		long: `
Compares a plugin with FILE, another version of it: version, types, schemas, permissions and, of programs in
Go, module, revision, Go version and dependencies. Without FILE, what a running host uses is compared with the
file that the plugin directory has now.

FILE is executed, to ask what it is, only if the trust policy of the configuration allows that: with its
signature beside it, for example. Otherwise what it says of itself is not known, and only its build is compared.

  + is added, - is removed, ~ is changed`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path, asJSON := configFlag(fs), jsonFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				file := ""
				if len(args) == 2 {
					file = args[1]
				}
				d, err := compare(ctx, *path, args[0], file)
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, d)
				}
				printDifference(stdout, d)
				return nil
			}
		},
	}
}

// difference is what changes from one file of a plugin to another.
type difference struct {
	Plugin  string   `json:"plugin"`
	Old     side     `json:"old"`
	New     side     `json:"new"`
	Changes []change `json:"changes"`
}

// side is one of the two.
type side struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	// Unknown says why it is not known what the plugin says of itself.
	Unknown string `json:"unknown,omitempty"`

	build       *admin.Build
	description *sdk.Description
}

// change is one difference. Old is "" for what is added, New for what is removed.
type change struct {
	What string `json:"what"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

func compare(ctx context.Context, path, name, file string) (difference, error) {
	d := difference{Plugin: name}
	cfg, err := config.Load(path)
	if err != nil {
		return d, err
	}
	d.Old, err = runningSide(ctx, path, name)
	if absent := errors.As(err, new(*url.Error)) || errors.As(err, new(errNotFound)); absent && file != "" {
		d.Old, err = fileSide(ctx, cfg, name, "")
	}
	if err != nil {
		return d, err
	}
	if d.New, err = fileSide(ctx, cfg, name, file); err != nil {
		return d, err
	}
	d.Changes = changes(d.Old, d.New)
	return d, nil
}

// runningSide is what a running host uses.
func runningSide(ctx context.Context, path, name string) (side, error) {
	var p admin.Plugin
	if err := adminAt(path).get(ctx, "/api/v1/plugins/"+url.PathEscape(name), nil, &p); err != nil {
		return side{}, err
	}
	s := side{Path: cmp.Or(p.Path, p.Address), SHA256: p.SHA256, build: p.Build, description: p.Description}
	if p.Description == nil {
		s.Unknown = cmp.Or(p.Problem, p.Reason, "the host has not launched it")
	}
	return s, nil
}

// fileSide is a file, or the one in the plugin directory for "".
func fileSide(ctx context.Context, cfg *config.Config, name, file string) (side, error) {
	if file != "" {
		changed, err := withBinary(cfg, name, file)
		if err != nil {
			return side{}, err
		}
		cfg = changed
	}
	host, err := newPluginHost(cfg, peekOptions(ctx, cfg))
	if err != nil {
		return side{}, err
	}
	defer closeQuietly(host)
	c, err := host.Inspect(name)
	switch {
	case errors.Is(err, pluginhost.ErrUnknown):
		return side{}, errNotFound{fmt.Errorf("there is no plugin %q in %s", name, cfg.Plugins.Directory)}
	case err != nil:
		return side{}, err
	case c.Status == pluginhost.StatusMissing:
		return side{}, errNotFound{fmt.Errorf("%s: %s", c.Path, c.Reason)}
	}
	s := side{Path: cmp.Or(c.Path, c.Address), SHA256: c.SHA256, build: readBuild(c.Path)}
	if c.Status != pluginhost.StatusReady && c.Status != pluginhost.StatusDialled {
		s.Unknown = "it was not executed: " + c.Reason
		return s, nil
	}
	description, err := host.Describe(ctx, name)
	if err != nil {
		s.Unknown = err.Error()
		return s, nil
	}
	s.description = &description
	return s, nil
}

// withBinary returns the configuration with another file for a plugin.
func withBinary(cfg *config.Config, name, file string) (*config.Config, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	out := *cfg
	out.Plugins.Declared = slices.Clone(cfg.Plugins.Declared)
	for i := range out.Plugins.Declared {
		if p := &out.Plugins.Declared[i]; p.Name == name {
			p.Binary, p.Address, p.TLS = file, "", nil
			return &out, nil
		}
	}
	out.Plugins.Declared = append(out.Plugins.Declared, config.Plugin{Name: name, Binary: file})
	return &out, nil
}

// changes are in the order of what changes. What a side says of itself is compared only if that is known of both.
func changes(old, new side) []change {
	described := old.description != nil && new.description != nil
	was, is := old.aspects(described), new.aspects(described)
	out := []change{}
	for _, what := range slices.Sorted(maps.Keys(is)) {
		if before, ok := was[what]; !ok || before != is[what] {
			out = append(out, change{what, before, is[what]})
		}
	}
	for _, what := range slices.Sorted(maps.Keys(was)) {
		if _, ok := is[what]; !ok {
			out = append(out, change{what, was[what], ""})
		}
	}
	slices.SortStableFunc(out, func(a, b change) int { return strings.Compare(a.What, b.What) })
	return out
}

// aspects are what there is to compare, one by one. None is "".
func (s side) aspects(described bool) map[string]string {
	out := map[string]string{}
	if b := s.build; b != nil {
		for what, is := range map[string]string{"go": b.Go, "main": b.Main, "module": strings.TrimSpace(b.Module + " " + b.Version),
			"revision": revisionOf(b), "time": b.Time} {
			if is != "" {
				out["build "+what] = is
			}
		}
		for path, version := range b.Dependencies {
			out["dependency "+path] = version
		}
	}
	if !described {
		return out
	}
	d := *s.description
	out["version"] = cmp.Or(d.Version, "none")
	fieldAspects(out, "config", d.Config)
	for _, t := range d.Sources {
		typeAspects(out, fmt.Sprintf("source %q", t.Type), t)
	}
	for _, t := range d.Sinks {
		typeAspects(out, fmt.Sprintf("sink %q", t.Type), t)
	}
	permissionAspects(out, d.Permissions)
	return out
}

func typeAspects(out map[string]string, name string, t sdk.AddressType) {
	out[name] = cmp.Or(strings.Join(traits(t), ", "), "offered")
	fieldAspects(out, name+" property", t.Address)
}

func fieldAspects(out map[string]string, of string, s sdk.Schema) {
	for _, f := range s.Fields {
		out[of+" "+fieldName(f)] = strings.Join(append([]string{kindName(f)}, fieldNotes(f)...), "; ")
	}
	if s.Open {
		out[of+" (any other)"] = "accepted"
	}
}

// permissionAspects say what a plugin needs of the machine.
func permissionAspects(out map[string]string, p *sdk.Permissions) {
	if p == nil {
		out["permissions"] = "it does not say what it needs"
		return
	}
	for kind, list := range map[string][]string{"environment": p.Environment, "read": p.Read, "write": p.Write, "connect": p.Connect} {
		for _, one := range list {
			out["permission "+kind+" "+one] = "needed"
		}
	}
	for kind, n := range map[string]int64{"memory": p.Memory, "open files": int64(p.OpenFiles)} {
		if n > 0 {
			out["permission "+kind] = fmt.Sprint(n)
		}
	}
}

func printDifference(w io.Writer, d difference) {
	fmt.Fprintf(w, "plugin %q\n", d.Plugin)
	for _, s := range []struct {
		name string
		side side
	}{{"old", d.Old}, {"new", d.New}} {
		fmt.Fprintf(w, "  %s  %s\n       sha256 %s\n", s.name, s.side.Path, s.side.SHA256)
		if s.side.Unknown != "" {
			fmt.Fprintf(w, "       what it says of itself is not known: %s\n", s.side.Unknown)
		}
		if s.side.build == nil {
			fmt.Fprintln(w, "       it does not say how it was built, as programs in Go do")
		}
	}
	fmt.Fprintln(w)
	switch {
	case len(d.Changes) == 0 && d.Old.SHA256 == d.New.SHA256:
		fmt.Fprintln(w, "It is the same file.")
	case len(d.Changes) == 0:
		fmt.Fprintln(w, "Nothing that can be compared changes.")
	}
	for _, c := range d.Changes {
		switch {
		case c.Old == "":
			fmt.Fprintf(w, "+ %s: %s\n", c.What, c.New)
		case c.New == "":
			fmt.Fprintf(w, "- %s: %s\n", c.What, c.Old)
		default:
			fmt.Fprintf(w, "~ %s: %s -> %s\n", c.What, c.Old, c.New)
		}
	}
}

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/verify"
)

// defaultSpec is read where -spec is not given and there is such a file.
const defaultSpec = "verify.hcl"

func pluginsVerifyCommand() command {
	return command{
		name: "plugins verify", args: "BINARY", short: "prove a plugin from outside, in whatever language it is written",
		long: `
Launches a plugin as a host does and checks what the plugin protocol promises: handshake, description, schemas,
parts of all sizes, thousands of parts, a reader that stalls, flows that are cut in every state, SIGTERM, SIGKILL in
mid part and resumption, garbage, floods of logs, children that are left. It needs neither configuration nor source
code, and executes the binary that it is given.

What the suite may read and write, the plugin's author says in verify.hcl (-spec FILE, HCL or JSON):

  config {                          # the plugin's configuration block; dir is a folder of the suite's
    root = dir
  }
  file {                            # files to lay in dir before: path, and size or content
    path = "in/a.bin"
    size = "3MiB"
  }
  source "File" {                   # an address to read, for each source type: it is read again and again, and has to
    path = "in"                     # give the same; with some MiB in a part it shows most
    sized   { path = "sized/${size}" }  # exactly one part of size bytes
    many    { path = "many" }       # exactly 3000 parts ("parts"; a file block that uses "part" lays so many)
    large   { path = "large" }      # 48 MiB or more
    missing { path = "nowhere" }    # nothing is there
  }
  sink "File" {                     # an address to write to, for each sink type; flow is another word for each flow
    path = "out/${flow}"
    read_back "File" { path = "out/${flow}" }  # a source of this plugin that reads what was written
    missing { path = "in/a.bin/x" } # cannot be written to
    records {}                      # it takes records too
  }
  environment = { NAME = "value" }  # added to the plugin's

Blocks inside change the address that they are in. endpoint is the address's endpoint, properties = {...} holds names
that are not HCL names, var.NAME is what -var says. What is not given is not applicable, and the table says so.

Or, for one address each, JSON: -config FILE (an object), -source FILE and -sink FILE
({"type": "File", "properties": {"path": "in"}}), and -round-trip if the address of -sink can be read.

Exit code 0 if no check fails, 1 if one does.`,
		flags: verifyFlags,
	}
}

// verifyOptions are the flags of plugins verify.
type verifyOptions struct {
	spec, config, source, sink string
	roundTrip                  bool
	only                       string
	patience                   time.Duration
	junit, report              string
	asJSON                     bool
	vars                       map[string]string
}

func verifyFlags(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
	o := &verifyOptions{vars: map[string]string{}}
	fs.StringVar(&o.spec, "spec", "", "`file` with configuration and addresses; "+defaultSpec+" if there is one")
	fs.StringVar(&o.config, "config", "", "JSON `file` with the plugin's configuration")
	fs.StringVar(&o.source, "source", "", "JSON `file` with an address to read")
	fs.StringVar(&o.sink, "sink", "", "JSON `file` with an address to write to")
	fs.BoolVar(&o.roundTrip, "round-trip", false, "the address of -sink can be read, by a source of the same type")
	fs.StringVar(&o.only, "only", "", "`checks` to run, separated by commas, as in source.*,sink.whole")
	fs.DurationVar(&o.patience, "patience", time.Minute, "how `long` a check may take")
	fs.StringVar(&o.junit, "junit", "", "`file` to write the results to as JUnit XML")
	fs.StringVar(&o.report, "report", "", "`file` to write the report to, as JSON, to be kept beside the binary")
	fs.BoolVar(&o.asJSON, "json", false, "print the report as JSON")
	fs.Func("var", "`NAME=VALUE`: the value of var.NAME in the file of -spec; any number", func(text string) error {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return fmt.Errorf("%q is not NAME=VALUE", text)
		}
		o.vars[name] = value
		return nil
	})
	return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		return o.run(ctx, args[0], stdout, stderr)
	}
}

func (o *verifyOptions) run(ctx context.Context, binary string, stdout, stderr io.Writer) error {
	spec, err := o.load()
	if err != nil {
		return err
	}
	options := verify.Options{Binary: binary, Spec: spec, HostVersion: version, Patience: o.patience}
	if o.only != "" {
		options.Only = strings.Split(o.only, ",")
	}
	if isTerminal(stderr) {
		options.Progress = func(r verify.Result) { fmt.Fprintf(stderr, "%-14s %s, %s\n", r.Outcome, r.ID, r.Subject) }
	}
	r, err := verify.Run(ctx, options)
	if err != nil {
		return err
	}
	if err := errors.Join(writeFile(o.junit, r.WriteJUnit), writeFile(o.report, r.WriteJSON)); err != nil {
		return err
	}
	show := r.WriteTable
	if o.asJSON {
		show = r.WriteJSON
	}
	if err := show(stdout); err != nil {
		return err
	}
	if !r.OK() {
		return fmt.Errorf("%s is not verified: %d checks failed, %d passed", binary, r.Failed, r.Passed)
	}
	return nil
}

// load reads what the flags name.
func (o *verifyOptions) load() (spec *verify.Spec, err error) {
	if _, err := os.Stat(defaultSpec); o.spec == "" && err == nil && o.config == "" && o.source == "" && o.sink == "" {
		o.spec = defaultSpec
	}
	if spec, err = verify.Load(o.spec, o.vars); err != nil {
		return nil, err
	}
	if o.config != "" {
		err = spec.SetConfig(o.config)
	}
	if o.source != "" && err == nil {
		err = spec.SetSource(o.source)
	}
	if o.sink != "" && err == nil {
		err = spec.SetSink(o.sink, o.roundTrip)
	}
	return spec, err
}

// writeFile writes a file, if it has a name.
func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

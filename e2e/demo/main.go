// Command demo shows Towpath at work. It starts a provider host and a consumer host, plays the control plane of each, moves a
// dataset between them in several ways, and compares what arrived with what was sent.
//
// It drives the built programs over HTTP, as control planes and operators do, and writes only below its work folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	readyTimeout = time.Minute
	stopTimeout  = 30 * time.Second // more than a host gives its flows and plugins
)

// options are what the command line says.
type options struct {
	binary  string
	plugins string
	configs string
	work    string
	size    byteSize
	plain   bool
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is one invocation of the program; it returns the exit code.
func run(args []string, stdout, stderr *os.File) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	// The first signal ends the hosts in order, the second ends this process, and on Linux the hosts with it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	defer stop()
	if err := show(ctx, o, newConsole(stdout, o.plain)); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{size: 256 << 20}
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.binary, "bin", ".towpath/bin/towpath", "the host's `program`")
	fs.StringVar(&o.plugins, "plugins", ".towpath/plugins", "`folder` of the plugins")
	fs.StringVar(&o.configs, "configs", "configs", "`folder` with provider.hcl and consumer.hcl")
	fs.StringVar(&o.work, "work", ".towpath/demo", "`folder` for everything that is written; it is made, or from an earlier demo")
	fs.Var(&o.size, "size", "`size` of the dataset, such as 8MiB")
	fs.BoolVar(&o.plain, "plain", false, "lines in place of progress bars")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		err := fmt.Errorf("%q is not a flag", fs.Arg(0))
		fmt.Fprintln(stderr, "demo:", err)
		return o, err
	}
	return o, o.resolve()
}

// resolve makes the folders absolute: the hosts' configurations take relative ones from elsewhere.
func (o *options) resolve() error {
	for _, path := range []*string{&o.binary, &o.plugins, &o.configs, &o.work} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	return nil
}

// show runs the demo. Whatever happens, the hosts have ended when it returns.
func show(ctx context.Context, o options, c *console) error {
	begun := time.Now()
	w, err := openWorkspace(o.work)
	if err != nil {
		return err
	}
	c.print("Dataset of %s in %s", mebibytes(int64(o.size)), shorten(w.files(provider)))
	data, err := makeDataset(ctx, w.files(provider), int64(o.size))
	if err != nil {
		return fmt.Errorf("make the dataset: %w", err)
	}
	d := &demo{console: c, dataset: data}
	err = d.play(ctx, o, w)
	err = errors.Join(err, d.stop())
	if err = errors.Join(err, d.conclude(w, time.Since(begun))); err == nil {
		c.print("Everything is equal.")
	}
	return err
}

// shorten returns a path as a person at the working folder would write it.
func shorten(path string) string {
	folder, err := os.Getwd()
	if err != nil {
		return path
	}
	short, err := filepath.Rel(folder, path)
	if err != nil || len(short) > len(path) {
		return path
	}
	return short
}

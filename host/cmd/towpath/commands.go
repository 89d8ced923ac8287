package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// command is one of towpath's commands.
type command struct {
	name  string // words, as "plugins list"
	args  string // what follows the flags
	short string // one line
	long  string // what --help teaches
	// flags adds the command's flags and returns what runs it.
	flags func(*flag.FlagSet) func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

func commands() []command {
	return []command{serveCommand(), validateCommand(), pluginsListCommand(), pluginsDescribeCommand(), pluginsDocsCommand(), pluginsSchemaCommand(),
		pluginsVerifyCommand(), pluginsNewCommand(), pluginsRescanCommand(),
		pluginsReleaseCommand(), pluginsTrustCommand(), pluginsDistrustCommand(), pluginsDiffCommand(),
		flowsListCommand(), flowsShowCommand(), flowsWatchCommand(), flowsRetryCommand(), flowsSkipCommand(), flowsResendCommand(), flowsTerminateCommand(), flowsAddressCommand(), flowsDataCommand(), flowsAgreementCommand(),
		datasetsListCommand(), datasetsShowCommand(), datasetsPutCommand(), datasetsRemoveCommand(),
		limitsListCommand(), limitsSetCommand(), limitsClearCommand(),
		controlPlanesListCommand(), controlPlanesRegisterCommand(), controlPlanesDeregisterCommand(),
		participantsListCommand(), participantsDocumentCommand(), openAPICommand(), versionCommand()}
}

// dispatch finds the command that args name, and runs it.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		overview(stderr)
		return errUsage
	}
	all := commands()
	if isHelp(args[0]) {
		if len(args) == 1 {
			overview(stdout)
			return nil
		}
		args = append(slices.Clone(args[1:]), "--help") // help on a command, said the other way round
	}
	for _, c := range all {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return c.run(ctx, args[len(words):], stdout, stderr)
		}
	}
	return unknown(all, args, stdout, stderr)
}

func isHelp(arg string) bool {
	return arg == "help" || arg == "-h" || arg == "-help" || arg == "--help"
}

// unknown answers a command that is not there, or the name of a group of commands.
func unknown(all []command, args []string, stdout, stderr io.Writer) error {
	var group []command
	for _, c := range all {
		if strings.HasPrefix(c.name, args[0]+" ") {
			group = append(group, c)
		}
	}
	out, err := stderr, errUsage
	switch {
	case len(group) == 0:
		fmt.Fprintf(stderr, "towpath: there is no command %q\n\n", args[0])
		overview(stderr)
		return err
	case len(args) > 1 && isHelp(args[1]):
		out, err = stdout, nil
	case len(args) > 1:
		fmt.Fprintf(stderr, "towpath: there is no command %q\n\n", args[0]+" "+args[1])
	}
	fmt.Fprintf(out, "Usage: towpath %s COMMAND\n\n", args[0])
	list(out, group)
	return err
}

func overview(w io.Writer) {
	fmt.Fprint(w, `towpath is a data plane for dataspaces: it takes orders from a connector's control plane over Data Plane
Signaling and moves data through plugins.

Usage: towpath COMMAND [flags]

`)
	list(w, commands())
	fmt.Fprint(w, `
Begin with:  towpath serve -config configs/quickstart.hcl
Help on a command:  towpath COMMAND --help

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 wrong configuration, 4 not found.
`)
}

func list(w io.Writer, cs []command) {
	for _, c := range cs {
		fmt.Fprintf(w, "  %-24s %s\n", c.name, c.short)
	}
}

func (c command) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	run := c.flags(fs)
	fs.Usage = func() {}
	fs.SetOutput(io.Discard)
	rest, err := parse(fs, args)
	if err == flag.ErrHelp {
		c.help(stdout, fs)
		return nil
	}
	if err == nil && !c.takes(len(rest)) {
		err = fmt.Errorf("takes %s besides flags, and got %q", orNothing(c.args), rest)
	}
	if err != nil {
		return wrongUsage(stderr, c.name, err.Error())
	}
	return run(ctx, rest, stdout, stderr)
}

// takes reports whether a command takes so many arguments. Those in brackets may be left out.
func (c command) takes(n int) bool {
	return n <= len(strings.Fields(c.args)) && n >= len(strings.Fields(c.args))-strings.Count(c.args, "[")
}

// wrongUsage tells a person how a command is not used.
func wrongUsage(stderr io.Writer, name, why string) error {
	fmt.Fprintf(stderr, "towpath %s: %s\nHelp:  towpath %s --help\n", name, why, name)
	return errUsage
}

// parse takes flags before and behind the other arguments.
func parse(fs *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if fs.NArg() == 0 {
			return rest, nil
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func (c command) help(w io.Writer, fs *flag.FlagSet) {
	usage := "towpath " + c.name
	flags := false
	fs.VisitAll(func(*flag.Flag) { flags = true })
	if flags {
		usage += " [flags]"
	}
	if c.args != "" {
		usage += " " + c.args
	}
	fmt.Fprintf(w, "Usage: %s\n\n%s\n", usage, strings.TrimSpace(c.long))
	if flags {
		fmt.Fprintln(w, "\nFlags:")
		fs.SetOutput(w)
		fs.PrintDefaults()
	}
}

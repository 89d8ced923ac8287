// Command towpath is a data plane for dataspaces: the host process, and the commands with which an operator looks at it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/confine"
)

// version of this host.
const version = "0.1.0"

// Exit codes. Scripts rely on them; help shows them.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitConfig   = 3
	exitNotFound = 4
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == confine.Argument {
		confine.Run(os.Args[2:]) // this is a plugin that is about to begin
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is one invocation of the program; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	// The first signal asks for an orderly stop, the second ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	err := dispatch(ctx, args, stdout, stderr)
	report(err, stderr)
	return exitCode(err)
}

var errUsage = errors.New("usage")

// errNotFound says that what a command was asked to show is not there.
type errNotFound struct{ error }

func exitCode(err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.As(err, new(*config.Error)):
		return exitConfig
	case errors.As(err, new(errNotFound)):
		return exitNotFound
	}
	return exitFailed
}

// report writes an error for people. What is wrong with the usage was written where it was found.
func report(err error, stderr io.Writer) {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp), errors.Is(err, errUsage):
	case errors.As(err, new(*config.Error)):
		fmt.Fprintln(stderr, err) // with what else went wrong, such as a plugin that could not be asked
	default:
		fmt.Fprintln(stderr, "towpath:", err)
	}
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/towpath-dataplane/towpath/sdk"
)

// faultMark stands at the end of a file of this program that was given a fault: builds of one plugin that do different things can be made
// without building any.
const faultMark = "\nfault: "

// A fault is what is wrong with a build, whatever it is asked for.
const (
	hangs            = "hangs"             // it moves nothing
	crashes          = "crashes"           // when it is asked to move something
	breaks           = "breaks"            // it says that it has failed, each time
	isUnavailable    = "is unavailable"    // it says that something else has, each time
	refusesTokens    = "refuses tokens"    // of whoever wants it to go on
	refusesAddresses = "refuses addresses" // any
	hasNoSink        = "has no sink"
	sinkHangs        = "sink hangs" // only that
)

// fault is that of this build, "" if it has none.
var fault = readFault()

func readFault() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	tail := make([]byte, 64)
	if _, err := file.Seek(-int64(len(tail)), io.SeekEnd); err != nil {
		return ""
	}
	n, _ := io.ReadFull(file, tail)
	_, text, _ := bytes.Cut(tail[:n], []byte(faultMark))
	return string(text)
}

// succumb does what the fault of this build is, when it is asked to move something; nil if that is nothing.
func succumb(ctx context.Context, resumes bool) error {
	switch fault {
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case crashes:
		fmt.Fprintln(stderr, "the shelf has collapsed")
		os.Exit(9)
	case breaks:
		return sdk.Errorf(sdk.Internal, "the shelf is broken")
	case isUnavailable:
		return sdk.Retryf(sdk.Unavailable, "the shelf is out of reach")
	case refusesTokens:
		if resumes {
			return sdk.Errorf(sdk.Invalid, "nothing is known of this token")
		}
	}
	return nil
}

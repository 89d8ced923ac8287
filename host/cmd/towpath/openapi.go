package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"io"
)

// openAPI has the descriptions of the host's APIs, which a test in e2e holds against a running host.
//
//go:embed openapi/*.yaml
var openAPI embed.FS

func openAPICommand() command {
	return command{
		name: "openapi", args: "API", short: "print the OpenAPI document of one of the host's APIs",
		long: `
Prints the OpenAPI document (YAML) of an API: signaling, which control planes call; public, which counterparties
call; or admin, for operators and for applications beside the host.`,
		flags: func(*flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			return func(_ context.Context, args []string, stdout, _ io.Writer) error {
				document, err := openAPI.ReadFile("openapi/" + args[0] + ".yaml")
				if err != nil {
					return errNotFound{fmt.Errorf("there is no API %q: it is signaling, public or admin", args[0])}
				}
				_, err = stdout.Write(document)
				return err
			}
		},
	}
}

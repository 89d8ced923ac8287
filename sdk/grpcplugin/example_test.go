package grpcplugin_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// A whole plugin: a source that reads greetings, and a sink that prints what it is given.
func Example() {
	text := sdk.Schema{Fields: []sdk.Field{{Name: "text", Required: true, Documentation: "What to say."}}}
	grpcplugin.Serve(sdk.Plugin{
		Name: "hello", Version: "1.0.0", Documentation: "Says hello.",
		Sources: []sdk.SourceType{{AddressType: sdk.AddressType{Type: "Hello", Address: text}, Source: source{}}},
		Sinks:   []sdk.SinkType{{AddressType: sdk.AddressType{Type: "Print"}, Sink: sink{}}},
	})
}

type source struct{}

func (source) Read(_ context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		yield(sdk.BytesPart("hello.txt", "text/plain", []byte(req.Address.Get("text"))), nil)
	}
}

type sink struct{}

func (sink) Write(_ context.Context, _ sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	for part, err := range parts {
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "part", part.Name)
		if _, err := io.Copy(os.Stderr, part); err != nil {
			return err
		}
		part.Commit("standard error")
	}
	return nil
}

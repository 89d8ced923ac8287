package main

import (
	"context"
	"io"
	"iter"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// tap is a source without an end, which has nothing until its gate opens, and nothing more after one line. See gate.
type tap struct{}

func tapType() sdk.SourceType {
	return sdk.SourceType{Source: tap{}, AddressType: sdk.AddressType{Type: "Tap", NonFinite: true,
		Address: sdk.Schema{Fields: []sdk.Field{{Name: "gate", Required: true, Documentation: "The file to wait for."}}}}}
}

func (tap) Validate(context.Context, sdk.DataAddress) error { return nil }

func (tap) Read(ctx context.Context, r sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		yield(sdk.ReaderPart("drops", "", io.NopCloser(&drops{ctx: ctx, gate: r.Address.Get("gate")})), nil)
	}
}

// drops are what comes out of a tap.
type drops struct {
	ctx  context.Context
	gate string
	rest *strings.Reader // nil until the gate is open
}

func (d *drops) Read(b []byte) (int, error) {
	if d.rest == nil {
		if err := pass(d.ctx, d.gate); err != nil {
			return 0, err
		}
		d.rest = strings.NewReader("a drop\n")
	}
	if d.rest.Len() == 0 {
		<-d.ctx.Done()
		return 0, d.ctx.Err()
	}
	return d.rest.Read(b)
}

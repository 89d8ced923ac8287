package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// brittleSource is a source of parts that can be taken up anywhere. Its process ends in the middle of the part that the address's property "kills"
// names, and some time after it was launched as long as there is a file "crash" in the folder that MISBEHAVE_GATES names.
type brittleSource struct{}

func brittleType() sdk.SourceType {
	return sdk.SourceType{Source: brittleSource{}, AddressType: sdk.AddressType{Type: "Brittle", Resumable: true,
		Address: sdk.Schema{Fields: []sdk.Field{
			{Name: "parts", Kind: sdk.Int, Required: true, Documentation: "How many there are."},
			{Name: "size", Kind: sdk.Size, Required: true, Documentation: "Of each."},
			{Name: "kills", Documentation: "Name of the part that ends the process."},
		}}}}
}

// brittle crashes again and again while it is told to.
func brittle(p sdk.Plugin) {
	p.Configure = func(context.Context, sdk.Config) error {
		go func() {
			for range time.Tick(300 * time.Millisecond) {
				if _, err := os.Stat(filepath.Join(os.Getenv("MISBEHAVE_GATES"), "crash")); err == nil {
					fmt.Fprintln(stderr, "the licence server has hung up")
					fmt.Fprintln(stderr, "giving up")
					os.Exit(9)
				}
			}
		}()
		return nil
	}
	grpcplugin.Serve(p)
}

func (brittleSource) Read(_ context.Context, r sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		parts, _ := strconv.Atoi(r.Address.Get("parts"))
		size, err := sdk.ParseSize(r.Address.Get("size"))
		if err != nil {
			yield(sdk.Part{}, err)
			return
		}
		for i := range parts {
			part := sdk.Part{PartInfo: sdk.PartInfo{Name: fmt.Sprintf("part-%02d", i), Size: size, Validator: fmt.Sprint(size)}}
			kills := part.Name == r.Address.Get("kills")
			part.Open = func(_ context.Context, offset int64) (io.ReadCloser, error) {
				return io.NopCloser(&glass{part: i, at: offset, size: size, kills: kills}), nil
			}
			if !yield(part, nil) {
				return
			}
		}
	}
}

// glass is the content of a part.
type glass struct {
	part     int
	at, size int64
	kills    bool
}

func (g *glass) Read(b []byte) (int, error) {
	if g.kills && g.at >= g.size/2 {
		fmt.Fprintf(stderr, "part %d has a crack\n", g.part)
		os.Exit(7)
	}
	n := int(min(int64(len(b)), g.size-g.at, 16<<10))
	if n == 0 {
		return 0, io.EOF
	}
	for i := range n {
		at := g.at + int64(i)
		b[i] = byte(at ^ at>>8 ^ at>>16 ^ int64(g.part))
	}
	g.at += int64(n)
	return n, nil
}

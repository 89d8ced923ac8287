package grpcplugin

import (
	"context"
	"path"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestCopyOverTheWire(t *testing.T) { onEachLane(t, copyOverTheWire) }

func copyOverTheWire(t *testing.T, client newClient) {
	parts := []sdktest.Content{
		{Name: "a.bin", Bytes: sdktest.Pattern(1, 1)},
		{Name: "b/empty", Bytes: []byte{}},
		{Name: "b/large.bin", Bytes: sdktest.Pattern(2, 3<<20+17)},
		{Name: "z ü/last.bin", Bytes: sdktest.Pattern(3, 70_000)},
	}
	sdktest.TestCopy(t, sdktest.CopyCase{Parts: parts, New: func(t *testing.T) sdktest.Copying {
		memory := &sdktest.Memory{}
		for _, p := range parts {
			memory.Put(path.Join("from", p.Name), p.Bytes)
		}
		c := client(t, memory.Plugin())
		return sdktest.Copying{
			Source: c.Source(sdktest.MemoryType), From: memory.Address("from"),
			Store: sdktest.Store{
				Sink: c.Sink(sdktest.MemoryType), Address: memory.Address("to"),
				Names: func() (names []string, err error) {
					for _, name := range memory.Names() {
						if rest, ok := strings.CutPrefix(name, "to/"); ok {
							names = append(names, rest)
						}
					}
					return names, nil
				},
				Content: func(name string) ([]byte, error) { return memory.Content("to/" + name) },
				Begun:   func() ([]string, error) { return memory.Begun(), nil },
			},
			Replace: func(name string, content []byte) error { memory.Put("from/"+name, content); return nil },
		}
	}})
}

// A plugin that is no Copier says so, and one that gives a long name is not believed.
func TestStoreOverTheWire(t *testing.T) {
	memory := &sdktest.Memory{}
	p := memory.Plugin()
	p.Sources[0].Source = struct{ sdk.Source }{memory}
	p.Sinks[0].Sink = &verbose{memory}
	c := client(t, p)
	d, err := c.Describe(t.Context(), "test")
	if err != nil || d.Sources[0].Copies || !d.Sinks[0].Copies {
		t.Errorf("source copies: %t, sink copies: %t, %v", d.Sources[0].Copies, d.Sinks[0].Copies, err)
	}
	if _, err := c.Source(sdktest.MemoryType).Store(t.Context(), memory.Address("")); err == nil || sdk.AsError(err).Code != sdk.Unsupported {
		t.Errorf("the store of a source that is no Copier: %v", err)
	}
	if _, err := c.Sink(sdktest.MemoryType).Store(t.Context(), memory.Address("")); err == nil || sdk.AsError(err).Code != sdk.Internal {
		t.Errorf("a store with a long name: %v", err)
	}
}

// verbose has a long name for its store.
type verbose struct{ *sdktest.Memory }

func (verbose) Store(context.Context, sdk.DataAddress) (string, error) {
	return strings.Repeat("x", maxStore+1), nil
}

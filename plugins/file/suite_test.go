package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestSourceSuite(t *testing.T) {
	root := t.TempDir()
	large := sdktest.Pattern(1, 3<<20+5)
	contents := []sdktest.Content{
		{Name: "a-b.csv", Bytes: []byte("-")},
		{Name: "a.csv", Bytes: []byte{}},
		{Name: "a/b.csv", Bytes: large},
		{Name: "a/b/c d.csv", Bytes: sdktest.Pattern(2, 70_000)},
		{Name: "a0.csv", Bytes: []byte("0")},
		{Name: "Übung/x.csv", Bytes: []byte("ü")},
	}
	for _, c := range contents {
		put(t, root, "data/"+c.Name, string(c.Bytes))
	}
	put(t, root, "elsewhere.csv", "not of these addresses")
	bad := []sdktest.BadAddress{
		{Name: "nothing there", Address: address("path", "nowhere"), Code: sdk.NotFound},
		{Name: "nothing in a file", Address: address("path", "elsewhere.csv/x"), Code: sdk.NotFound},
		{Name: "no path", Address: address(), Code: sdk.Invalid},
		{Name: "way out", Address: address("path", "../x"), Code: sdk.Invalid},
		{Name: "no match", Address: address("path", "data/*.xml"), Code: sdk.NotFound},
		{Name: "no folder to match in", Address: address("path", "nowhere/*"), Code: sdk.NotFound},
		{Name: "no pattern", Address: address("path", "data/[x"), Code: sdk.Invalid},
		{Name: "unknown property", Address: address("path", "data", "pth", "x"), Code: sdk.Invalid},
	}
	for name, c := range map[string]sdktest.SourceCase{
		"folder": {Address: address("path", "data"), Parts: contents, Bad: bad},
		"file":   {Address: address("path", "data/a/b.csv"), Parts: []sdktest.Content{{Name: "b.csv", Bytes: large}}},
		"glob":   {Address: address("path", "data/**/b*.csv"), Parts: []sdktest.Content{{Name: "a/b.csv", Bytes: large}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.New = func(t *testing.T) sdk.DataSource {
				source, _ := newVolume(t, root)
				return source
			}
			sdktest.TestSource(t, c)
		})
	}
}

func TestSinkSuite(t *testing.T) {
	for _, a := range []sdk.DataAddress{
		address(),
		address("path", "in/box", "collision", collisionReplace),
		address("path", "in", "collision", collisionRename),
	} {
		t.Run(a.Get("collision"), func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{
				Resumable: true,
				New:       func(t *testing.T) sdktest.Store { return newStore(t, t.TempDir(), a) },
			})
		})
	}
}

func newStore(t *testing.T, root string, a sdk.DataAddress) sdktest.Store {
	_, sink := newVolume(t, root)
	folder := filepath.Join(root, a.Get("path"))
	return sdktest.Store{
		Sink: sink, Address: a,
		Names: func() ([]string, error) {
			if _, err := os.Stat(folder); os.IsNotExist(err) {
				return tree(root) // which shows what is outside
			}
			return tree(folder)
		},
		Content: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(folder, name)) },
		Begun:   func() ([]string, error) { return temporaries(root) },
	}
}

package pluginhost

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

var s3CopyConfig = map[string][]byte{"s3": []byte(`{"allow":["loopback"],"copy_part_size":"5MiB"}`)}

func TestShippedS3Copies(t *testing.T) { onEachLane(t, shippedS3Copies) }

func shippedS3Copies(t *testing.T, lane Lane) {
	store := startObjectStore(t)
	parts := []sdktest.Content{
		{Name: "a/b +.csv", Bytes: sdktest.Pattern(1, 11<<20+5)}, {Name: "empty", Bytes: []byte{}}, {Name: "z ü.csv", Bytes: []byte("x")}}
	n := 0
	sdktest.TestCopy(t, sdktest.CopyCase{Parts: parts, New: func(t *testing.T) sdktest.Copying {
		n++
		_, from := store.bucket(t, fmt.Sprintf("from-%d", n))
		folder, to := store.bucket(t, fmt.Sprintf("to-%d", n))
		host := launchShipped(t, lane, s3CopyConfig)
		source, err := host.Source("AmazonS3")
		if err != nil {
			t.Fatal(err)
		}
		sink, err := host.Sink("AmazonS3")
		if err != nil {
			t.Fatal(err)
		}
		put := func(name string, content []byte) error {
			return putPart(context.Background(), sink, from, name, content)
		}
		for _, p := range parts {
			if err := put(p.Name, p.Bytes); err != nil {
				t.Fatal(err)
			}
		}
		all, other := from.Clone(), to.Clone()
		all.Properties["folderName"], other.Properties["secretAccessKey"] = "/", "another"
		checkInOneStore(t, host, all, to, other)
		return sdktest.Copying{
			Source: source, From: all, Elsewhere: []sdk.DataAddress{other}, Secrets: []string{storeKey, storeSecret}, Replace: put,
			Store: sdktest.Store{
				Sink: sink, Address: to,
				Names:   func() ([]string, error) { return objects(folder, false) },
				Begun:   func() ([]string, error) { return objects(folder, true) },
				Content: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(folder, name)) },
			},
		}
	}})
}

// putPart writes an object as a flow of its own.
func putPart(ctx context.Context, sink sdk.DataSink, a sdk.DataAddress, name string, content []byte) error {
	w, err := sink.Write(ctx, sdk.WriteOpen{Flow: sdk.FlowContext{ParticipantContext: "default", ID: "put"}, Address: a})
	if err != nil {
		return err
	}
	defer w.Close()
	frames := []sdk.Frame{&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: name, Size: int64(len(content))}}}
	for at := 0; at < len(content); at += sdk.MaxData {
		frames = append(frames, &sdk.Data{Payload: sdk.BytesPayload(content[at:min(at+sdk.MaxData, len(content))])})
	}
	size := int64(len(content))
	for _, f := range append(frames, &sdk.PartEnd{Size: size}, &sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: size}}) {
		if err := w.Send(f); err != nil && err != io.EOF {
			return err
		}
	}
	for {
		if _, err := w.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// checkInOneStore checks when the host finds that a store can and may copy.
func checkInOneStore(t *testing.T, h *Host, from, to, other sdk.DataAddress) {
	t.Helper()
	file := sdk.DataAddress{Type: "File"}
	for _, tt := range []struct {
		name     string
		from, to sdk.DataAddress
		allowed  bool
		want     bool
	}{
		{"same store", from, to, true, true},
		{"not allowed", from, to, false, false},
		{"other credentials", from, other, true, false},
		{"unknown source", file, to, true, false},
		{"unknown sink", from, file, true, false},
		{"bad address", sdk.DataAddress{Type: "AmazonS3"}, to, true, false},
	} {
		h.plugins["s3"].settings.ServerSideCopy = tt.allowed
		if got := h.InOneStore(t.Context(), tt.from, tt.to); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
	h.plugins["s3"].settings.ServerSideCopy = true
}

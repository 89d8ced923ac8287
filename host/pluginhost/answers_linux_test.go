package pluginhost

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// A plugin that is killed takes the reads that run with it, which say so, and nothing else: those that come later go to the next process,
// whatever connections were kept to the first.
func TestAnswersOutliveTheProcess(t *testing.T) { onEachLane(t, answersOutliveTheProcess) }

func answersOutliveTheProcess(t *testing.T, lane Lane) {
	root := t.TempDir()
	for name, size := range map[string]int{"small": 1 << 10, "large": 16 << 20} {
		if err := os.WriteFile(filepath.Join(root, name), sdktest.Pattern(1, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := launchShipped(t, lane, map[string][]byte{"file": []byte(`{"root":"` + root + `"}`)})
	source, err := h.Source("File")
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) sdk.ReadStream {
		stream, err := source.Read(t.Context(), sdk.ReadOpen{Once: true,
			Address: sdk.DataAddress{Type: "File", Properties: map[string]string{"path": name}}})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	rest := func(stream sdk.ReadStream) (n int, err error) {
		defer stream.Close()
		for {
			f, err := stream.Recv()
			if err != nil {
				return n, err
			}
			if d, ok := f.(*sdk.Data); ok {
				n += d.Len()
			}
			sdk.Release(f)
		}
	}
	for round := range 3 {
		idle := []sdk.ReadStream{open("small"), open("small"), open("small")}
		for _, s := range idle {
			if n, err := rest(s); n != 1<<10 || err != io.EOF {
				t.Fatalf("%d bytes, %v", n, err)
			}
		}
		running := open("large")
		firstData(t, running)
		if err := syscall.Kill(info(t, h, "file").PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_, err := rest(running)
		if e := (*sdk.Error)(nil); !errors.As(err, &e) || e.Code != sdk.Unavailable || !e.Retryable {
			t.Errorf("a read whose process was killed: %v", err)
		}
		awaitStatus(t, h, "file", func(st status) bool { return st.state == StateReady && st.restarts > round })
	}
}

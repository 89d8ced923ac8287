package pluginhost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// objectStore is versitygw, which keeps buckets as folders and objects as files.
type objectStore struct{ url, folder string }

const storeKey, storeSecret = "test-access-key", "test-secret-access-key"

// startObjectStore starts a store that ends with the test.
func startObjectStore(t *testing.T) *objectStore {
	t.Helper()
	binary, err := filepath.Abs("../../.bin/versitygw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("the store for tests is not there: run make .bin/versitygw (%v)", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	s := &objectStore{url: "http://" + address, folder: t.TempDir()}
	var output bytes.Buffer
	cmd := exec.Command(binary, "--port", address, "--access", storeKey, "--secret", storeSecret, "--health", "/_health", "--quiet",
		"--iam-dir", t.TempDir(), "posix", s.folder)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if resp, err := http.Get(s.url + "/_health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				http.DefaultClient.CloseIdleConnections()
				return s
			}
		}
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("the store does not answer\n%s", output.String())
		}
	}
}

// bucket makes a bucket and returns its folder and an address.
func (s *objectStore) bucket(t *testing.T, name string, properties ...string) (string, sdk.DataAddress) {
	t.Helper()
	folder := filepath.Join(s.folder, name)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	a := sdk.DataAddress{Type: "AmazonS3", Properties: map[string]string{
		"endpointOverride": s.url, "bucketName": name, "accessKeyId": storeKey, "secretAccessKey": storeSecret,
	}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return folder, a
}

// objects lists the files of a bucket: finished objects, or what the sink and the store keep besides.
func objects(bucket string, begun bool) (names []string, err error) {
	err = filepath.WalkDir(bucket, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(bucket, path)
		if own := strings.Contains("/"+name, "/.towpath/") || strings.HasPrefix(name, ".sgwtmp/"); own == begun {
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	return names, err
}

var s3Config = map[string][]byte{"s3": []byte(`{"allow":["loopback"]}`)}

func TestShippedS3Source(t *testing.T) { onEachLane(t, shippedS3Source) }

func shippedS3Source(t *testing.T, lane Lane) {
	folder, a := startObjectStore(t).bucket(t, "data", "objectPrefix", "in/")
	contents := []sdktest.Content{
		{Name: "a/b.csv", Bytes: sdktest.Pattern(1, 20<<20+5)}, {Name: "empty", Bytes: []byte{}}, {Name: "z ü+%41.csv", Bytes: []byte("x")}}
	for _, c := range contents {
		path := filepath.Join(folder, "in", c.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, c.Bytes, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nowhere := a.Clone()
	nowhere.Properties["objectPrefix"] = "nowhere/"
	sdktest.TestSource(t, sdktest.SourceCase{
		New:     func(t *testing.T) sdk.DataSource { return sourceOf(t, lane, "AmazonS3", s3Config) },
		Address: a, Parts: contents,
		Bad: []sdktest.BadAddress{
			{Name: "not there", Address: nowhere, Code: sdk.NotFound},
			{Name: "no bucket", Address: sdk.DataAddress{Type: "AmazonS3"}, Code: sdk.Invalid},
		},
	})
}

func TestShippedS3Sink(t *testing.T) { onEachLane(t, shippedS3Sink) }

func shippedS3Sink(t *testing.T, lane Lane) {
	store := startObjectStore(t)
	n := 0
	sdktest.TestSink(t, sdktest.SinkCase{Resumable: true, New: func(t *testing.T) sdktest.Store {
		n++
		folder, a := store.bucket(t, fmt.Sprintf("bucket-%d", n))
		return sdktest.Store{
			Sink: sinkOf(t, lane, "AmazonS3", s3Config), Address: a,
			Names:   func() ([]string, error) { return objects(folder, false) },
			Begun:   func() ([]string, error) { return objects(folder, true) },
			Content: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(folder, name)) },
		}
	}})
}

// The process of the sink is killed in the middle of an upload, again and again. The flow goes on with another, and no part of the upload
// is sent twice but one that was not acknowledged. A flow that is terminated leaves no upload.
func TestShippedS3SinkIsKilled(t *testing.T) {
	const size, step = 60 << 20, 13 << 20
	store := startObjectStore(t)
	folder, a := store.bucket(t, "killed", "folderName", "in")
	content := sdktest.Pattern(7, size)
	host := launchShipped(t, LaneAuto, s3Config)
	flow := sdk.FlowContext{ParticipantContext: "default", ID: "flow-1"}
	var token []byte
	pids := map[int]bool{}
	for offset := 0; ; {
		sink := awaitSink(t, host, pids)
		w, err := sink.Write(t.Context(), sdk.WriteOpen{
			Flow: flow, Address: a, ResumeToken: token, Redelivery: token != nil, Digests: sdk.Algorithms(),
		})
		if err != nil {
			t.Fatal(err)
		}
		sent := min(offset+step, size)
		send := func(f sdk.Frame) {
			if err := w.Send(f); err != nil && err != io.EOF {
				t.Fatal(err)
			}
		}
		send(&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "one.bin", Size: size}, Offset: int64(offset)})
		for at := offset; at < sent; at += 256 << 10 {
			send(&sdk.Data{Payload: sdk.BytesPayload(content[at:min(at+256<<10, sent)])})
		}
		if sent == size {
			d := sdk.NewDigester(sdk.Algorithms()...)
			d.Write(content)
			send(&sdk.PartEnd{Size: size, Digests: d.Sum()})
			send(&sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: size}})
		} else {
			send(&sdk.Checkpoint{Sequence: 1, Token: []byte("x")})
		}
		up, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := up.(*sdk.Durable); ok {
			token = d.Token
			for at := sent; at < min(sent+step/2, size); at += 256 << 10 { // lost
				send(&sdk.Data{Payload: sdk.BytesPayload(content[at:min(at+256<<10, size)])})
			}
			if names, err := objects(folder, false); err != nil || len(names) > 0 {
				t.Errorf("while the part is not whole there are %q, %v", names, err)
			}
			kill(t, host, pids)
			w.Close()
			offset = sent
			continue
		}
		if p, ok := up.(*sdk.PartWritten); !ok || p.Size != size {
			t.Errorf("the sink said %#v", up)
		}
		w.Close()
		break
	}
	if got, err := os.ReadFile(filepath.Join(folder, "in/one.bin")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the object has %d bytes, %v", len(got), err)
	}
	expectBegun(t, folder, false)

	flow.ID = "flow-2"
	w, err := awaitSink(t, host, pids).Write(t.Context(), sdk.WriteOpen{Flow: flow, Address: a})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []sdk.Frame{&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "two.bin", Size: size}},
		&sdk.Data{Payload: sdk.BytesPayload(content[:sdk.MaxData])}, &sdk.Checkpoint{Sequence: 1}} {
		if err := w.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Recv(); err != nil {
		t.Fatal(err)
	}
	kill(t, host, pids)
	w.Close()
	expectBegun(t, folder, true)
	if err := awaitSink(t, host, pids).Deprovision(t.Context(), flow, a); err != nil {
		t.Fatal(err)
	}
	expectBegun(t, folder, false)
}

func expectBegun(t *testing.T, folder string, want bool) {
	t.Helper()
	if begun, err := objects(folder, true); err != nil || (len(begun) > 0) != want {
		t.Errorf("the sink and the store keep %q, %v", begun, err)
	}
}

// kill kills the process of the plugin and remembers it.
func kill(t *testing.T, h *Host, pids map[int]bool) {
	t.Helper()
	pid := pidOf(h)
	pids[pid] = true
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func pidOf(h *Host) int {
	for _, p := range h.Plugins() {
		if p.Name == "s3" {
			return p.PID
		}
	}
	return 0
}

// awaitSink returns the sink once its process is none of those that were killed.
func awaitSink(t *testing.T, h *Host, pids map[int]bool) sdk.DataSink {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if pid := pidOf(h); pid != 0 && !pids[pid] {
			s, err := h.Sink("AmazonS3")
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if time.Now().After(deadline) {
			state, _ := json.Marshal(h.Plugins())
			t.Fatalf("no other process: %s", state)
		}
	}
}

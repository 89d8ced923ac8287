package pluginhost

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// shipped builds the plugins that Towpath ships, once for all tests.
var shipped = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shipped")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"file", "http", "kafka", "s3", "synthetic"} {
		out := filepath.Join(dir, filePrefix+name)
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "github.com/towpath-dataplane/towpath/plugins/"+name)
		if text, err := build.CombinedOutput(); err != nil {
			return dir, &Error{Plugin: name, Doing: "build: " + string(text), Err: err}
		}
	}
	return dir, nil
})

// launchShipped returns a host that runs the built plugins. Every test of a suite gets its own host, because the suites count what is
// left when a test has ended.
func launchShipped(t *testing.T, lane Lane, configs map[string][]byte) *Host {
	t.Helper()
	dir, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	// Only the plugins that are configured, to keep the suites quick.
	own, settings := t.TempDir(), map[string]Settings{}
	for name := range configs {
		settings[name] = Settings{Lane: lane, ServerSideCopy: true, QuarantineAfter: -1}
		if err := os.Link(filepath.Join(dir, filePrefix+name), filepath.Join(own, filePrefix+name)); err != nil {
			t.Fatal(err)
		}
	}
	runDir, err := os.MkdirTemp("", "run")
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Options{Directory: own, Trust: TrustOff, RuntimeDir: runDir, Plugins: settings})
	if err != nil {
		t.Fatal(err)
	}
	h.launcher.laneAfter = -1
	t.Cleanup(func() {
		if err := h.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		os.RemoveAll(runDir)
	})
	if err := h.Start(t.Context(), configs); err != nil {
		t.Fatal(err)
	}
	awaitBrokers(t)
	return h
}

// awaitBrokers waits until go-plugin has opened the stream that it keeps for every plugin. It does so in its own time, and a suite would
// take what begins after the launch for left behind.
func awaitBrokers(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 4<<20)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		all := string(stacks[:runtime.Stack(stacks, true)])
		opening := strings.Count(all, "hashicorp/go-plugin.newGRPCClient.func1(")
		if open := strings.Count(all, "created by github.com/hashicorp/go-plugin.(*gRPCBrokerClientImpl).StartStream"); opening > 0 && opening == open {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the plugins' streams were not opened:\n%s", all)
		}
	}
}

// onEachLane runs a test with plugins that have nothing but gRPC, and with plugins whose payload is all beside it.
func onEachLane(t *testing.T, test func(t *testing.T, lane Lane)) {
	for _, lane := range []Lane{LaneGRPC, LaneAuto} {
		t.Run(string(lane), func(t *testing.T) { test(t, lane) })
	}
}

func sourceOf(t *testing.T, lane Lane, typ string, configs map[string][]byte) sdk.DataSource {
	t.Helper()
	s, err := launchShipped(t, lane, configs).Source(typ)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sinkOf(t *testing.T, lane Lane, typ string, configs map[string][]byte) sdk.DataSink {
	t.Helper()
	s, err := launchShipped(t, lane, configs).Sink(typ)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fileConfig(root string) map[string][]byte {
	return map[string][]byte{"file": []byte(`{"root":` + strconv.Quote(root) + `,"read_only":false}`)}
}

var httpConfig = map[string][]byte{"http": []byte(`{"allow":["loopback"],"timeout":"30s","idle_timeout":"2m","redirects":"same-host","max_error_body":"16KiB","max_spool":"1GiB"}`)}

func TestShippedFileSource(t *testing.T) { onEachLane(t, shippedFileSource) }

func shippedFileSource(t *testing.T, lane Lane) {
	root := t.TempDir()
	contents := []sdktest.Content{
		{Name: "a/b.csv", Bytes: sdktest.Pattern(1, 3<<20+5)}, {Name: "empty", Bytes: []byte{}}, {Name: "z ü.csv", Bytes: []byte("x")}}
	for _, c := range contents {
		path := filepath.Join(root, "data", c.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, c.Bytes, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	address := func(path string) sdk.DataAddress {
		return sdk.DataAddress{Type: "File", Properties: map[string]string{"path": path}}
	}
	c := sdktest.SourceCase{
		New:     func(t *testing.T) sdk.DataSource { return sourceOf(t, lane, "File", fileConfig(root)) },
		Address: address("data"), Parts: contents,
		Bad: []sdktest.BadAddress{
			{Name: "not there", Address: address("nowhere"), Code: sdk.NotFound},
			{Name: "way out", Address: address("../x"), Code: sdk.Invalid},
		},
	}
	sdktest.TestSource(t, c)
	// And with reads that are answered. What is kept for them is there before the suite counts goroutines.
	c.Once, c.Bad = true, nil
	c.New = func(t *testing.T) sdk.DataSource {
		source := sourceOf(t, lane, "File", fileConfig(root))
		stream, err := source.Read(t.Context(), sdk.ReadOpen{Address: c.Address, List: true, Once: true})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		return source
	}
	t.Run("answers", func(t *testing.T) { sdktest.TestSource(t, c) })
}

func TestShippedFileSink(t *testing.T) { onEachLane(t, shippedFileSink) }

func shippedFileSink(t *testing.T, lane Lane) {
	sdktest.TestSink(t, sdktest.SinkCase{Resumable: true, New: func(t *testing.T) sdktest.Store {
		root := t.TempDir()
		return sdktest.Store{
			Sink:    sinkOf(t, lane, "File", fileConfig(root)),
			Address: sdk.DataAddress{Type: "File"},
			Names:   func() ([]string, error) { return files(root, false) },
			Begun:   func() ([]string, error) { return files(root, true) },
			Content: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(root, name)) },
		}
	}})
}

// files lists the files below root: those that a sink has finished, or the temporary ones.
func files(root string, temporary bool) (names []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if strings.HasPrefix(name, ".towpath/") == temporary {
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	return names, err
}

func TestShippedGenerate(t *testing.T) { onEachLane(t, shippedGenerate) }

func shippedGenerate(t *testing.T, lane Lane) {
	config := map[string][]byte{"synthetic": []byte(`{}`)}
	address := sdk.DataAddress{Type: "Generate", Properties: map[string]string{"size": "1000003", "parts": "2", "seed": "7"}}
	// What the binary generates is what it generated before: the suite compares against its own first reading.
	stream, err := sourceOf(t, lane, "Generate", config).Read(t.Context(), sdk.ReadOpen{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	var parts []sdktest.Content
	for {
		f, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *sdk.PartBegin:
			parts = append(parts, sdktest.Content{Name: f.Name})
		case *sdk.Data:
			var b bytes.Buffer
			f.WriteTo(&b)
			last := &parts[len(parts)-1]
			last.Bytes = append(last.Bytes, b.Bytes()...)
		}
		sdk.Release(f)
	}
	stream.Close()
	if len(parts) != 2 || len(parts[1].Bytes) != 1000003 {
		t.Fatalf("%d parts", len(parts))
	}
	sdktest.TestSource(t, sdktest.SourceCase{
		New:     func(t *testing.T) sdk.DataSource { return sourceOf(t, lane, "Generate", config) },
		Address: address, Parts: parts,
	})
}

func TestShippedDiscard(t *testing.T) { onEachLane(t, shippedDiscard) }

func shippedDiscard(t *testing.T, lane Lane) {
	sdktest.TestSink(t, sdktest.SinkCase{Resumable: true, Records: true, New: func(t *testing.T) sdktest.Store {
		return sdktest.Store{Sink: sinkOf(t, lane, "Discard", map[string][]byte{"synthetic": []byte(`{}`)}), Address: sdk.DataAddress{Type: "Discard"}}
	}})
}

func TestShippedHTTPSource(t *testing.T) { onEachLane(t, shippedHTTPSource) }

func shippedHTTPSource(t *testing.T, lane Lane) {
	content := sdktest.Pattern(2, 2<<20+1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/data" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	server.Config.SetKeepAlivesEnabled(false) // the suite counts goroutines, and the server's are in this process
	t.Cleanup(server.Close)
	address := func(path string) sdk.DataAddress {
		return sdk.DataAddress{Type: "HttpData", Properties: map[string]string{"baseUrl": server.URL + path, "name": "one.bin"}}
	}
	sdktest.TestSource(t, sdktest.SourceCase{
		New:     func(t *testing.T) sdk.DataSource { return sourceOf(t, lane, "HttpData", httpConfig) },
		Address: address("/data"), Parts: []sdktest.Content{{Name: "one.bin", Bytes: content}},
		Bad: []sdktest.BadAddress{
			{Name: "not there", Address: address("/no"), Code: sdk.NotFound},
			{Name: "no URL", Address: sdk.DataAddress{Type: "HttpData"}, Code: sdk.Invalid},
		},
	})
}

func TestShippedHTTPSink(t *testing.T) { onEachLane(t, shippedHTTPSink) }

func shippedHTTPSink(t *testing.T, lane Lane) {
	sdktest.TestSink(t, sdktest.SinkCase{New: func(t *testing.T) sdktest.Store {
		r := &receiver{parts: map[string][]byte{}}
		server := httptest.NewServer(r)
		server.Config.SetKeepAlivesEnabled(false)
		t.Cleanup(server.Close)
		return sdktest.Store{
			Sink:    sinkOf(t, lane, "HttpData", httpConfig),
			Address: sdk.DataAddress{Type: "HttpData", Properties: map[string]string{"baseUrl": server.URL}},
			Names:   r.names, Content: r.content,
		}
	}})
}

var kafkaConfig = map[string][]byte{"kafka": []byte(`{"allow":["loopback"],"max_message":"3MiB"}`)}

// newKafka returns a cluster with a topic, and the topic's address.
func newKafka(t *testing.T, topic string, properties map[string]string) (*kfake.Cluster, sdk.DataAddress) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.CreateTopic(topic, 1, map[string]string{"max.message.bytes": "4194304"}); err != nil {
		t.Fatal(err)
	}
	a := sdk.DataAddress{Type: "Kafka", Properties: map[string]string{"topic": topic, "kafka.bootstrap.servers": c.ListenAddrs()[0],
		"kafka.security.protocol": "PLAINTEXT"}}
	maps.Copy(a.Properties, properties)
	return c, a
}

func TestShippedKafkaSource(t *testing.T) {
	c, address := newKafka(t, "events", map[string]string{"stop": "latest"})
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	var records []sdk.Record
	for i := range 600 {
		r := sdk.Record{Key: []byte{byte(i)}, Value: sdktest.Pattern(i, 5000), Time: time.UnixMilli(1_700_000_000_000).UTC(),
			Headers: map[string][]byte{"n": {byte(i)}}}
		m := &kgo.Record{Topic: "events", Key: r.Key, Value: r.Value, Timestamp: r.Time, Headers: []kgo.RecordHeader{{Key: "n", Value: []byte{byte(i)}}}}
		if err := client.ProduceSync(t.Context(), m).FirstErr(); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	nothing := address.Clone()
	nothing.Properties["topic"] = "nothing"
	sdktest.TestSource(t, sdktest.SourceCase{
		New:     func(t *testing.T) sdk.DataSource { return sourceOf(t, LaneAuto, "Kafka", kafkaConfig) },
		Address: address, Parts: []sdktest.Content{{Name: "events", Records: records}},
		Bad: []sdktest.BadAddress{{Name: "no such topic", Address: nothing, Code: sdk.NotFound}},
	})
}

func TestShippedKafkaSink(t *testing.T) {
	for _, transactional := range []string{"false", "true"} {
		t.Run("transactional "+transactional, func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{Records: true, New: func(t *testing.T) sdktest.Store {
				_, address := newKafka(t, "inbox", map[string]string{"transactional": transactional})
				// What is in the topic is looked at in the plugin's own tests.
				return sdktest.Store{Sink: sinkOf(t, LaneAuto, "Kafka", kafkaConfig), Address: address}
			}})
		})
	}
}

// receiver stores a part when it has all of it, as an ingest does.
type receiver struct {
	mu    sync.Mutex // guards parts
	parts map[string][]byte
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	_, params, err := mime.ParseMediaType(req.Header.Get("Content-Disposition"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	content, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts[params["filename"]] = content
	w.WriteHeader(http.StatusCreated)
}

func (r *receiver) names() (names []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.parts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (r *receiver) content(name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[name], nil
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// block is a configuration block.
type block map[string]any

// loopback is a configuration that lets tests reach their servers.
func loopback() block { return block{"allow": []string{"loopback"}} }

// with adds a value to a block.
func (b block) with(name string, value any) block {
	b[name] = value
	return b
}

// newTestPlugin returns a configured plugin whose connections end with the test.
func newTestPlugin(t *testing.T, b block) sdk.Plugin {
	t.Helper()
	p := newPlugin()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Configure(t.Context(), sdk.Config{JSON: text, ScratchDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	env := environmentOf(p)
	t.Cleanup(env.reader.http.CloseIdleConnections)
	t.Cleanup(env.writer.http.CloseIdleConnections)
	return p
}

func environmentOf(p sdk.Plugin) *environment { return p.Sources[0].Source.(*source).env }

// newServer serves on loopback until the test ends.
func newServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

// newRawServer gives each connection, with the request that was read from it, to serve, and closes it after.
func newRawServer(t *testing.T, serve func(net.Conn, *http.Request)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer conn.Close()
				if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					serve(conn, req)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		connections.Wait()
	})
	return "http://" + l.Addr().String()
}

// reset makes the closing of a connection a reset.
func reset(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) }

func edc(baseURL string, properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: addressType, Properties: map[string]string{"baseUrl": baseURL}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return a
}

func dps(endpoint string, properties ...string) sdk.DataAddress {
	a := edc(endpoint, properties...)
	delete(a.Properties, "baseUrl")
	a.Endpoint = endpoint
	return a
}

// readPart is a part with its content.
type readPart struct {
	sdk.PartInfo
	content string
}

// readAll opens every part behind an address at its start and reads it.
func readAll(ctx context.Context, p sdk.Plugin, req sdk.ReadRequest) ([]readPart, error) {
	var parts []readPart
	for part, err := range p.Sources[0].Source.Read(ctx, req) {
		if err != nil {
			return parts, err
		}
		content, err := readFrom(ctx, part, 0)
		if err != nil {
			return parts, err
		}
		sums := sdk.NewDigester(sdk.Algorithms()...)
		io.WriteString(sums, content)
		if err := sums.Sum().Compare(part.Digests); err != nil { // as the SDK does
			return parts, sdk.Retryf(sdk.Corrupt, "%w", err)
		}
		parts = append(parts, readPart{part.PartInfo, content})
	}
	return parts, nil
}

func readFrom(ctx context.Context, part sdk.Part, offset int64) (string, error) {
	r, err := part.Open(ctx, offset)
	if err != nil {
		return "", err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	return string(content), err
}

// read reads an address that has to have one part.
func read(t *testing.T, p sdk.Plugin, a sdk.DataAddress) readPart {
	t.Helper()
	parts, err := readAll(t.Context(), p, sdk.ReadRequest{Address: a})
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) != 1 {
		t.Fatalf("%d parts, want 1", len(parts))
	}
	return parts[0]
}

func readError(t *testing.T, p sdk.Plugin, a sdk.DataAddress) error {
	t.Helper()
	parts, err := readAll(t.Context(), p, sdk.ReadRequest{Address: a})
	if err == nil {
		t.Fatalf("no error, but %d parts", len(parts))
	}
	return err
}

// wantError checks an error's code, whether it can pass, and pieces of its message.
func wantError(t *testing.T, err error, code sdk.Code, retryable bool, pieces ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	e := sdk.AsError(err)
	if e.Code != code || e.Retryable != retryable {
		t.Errorf("code %q, retryable %t; want %q, %t: %v", e.Code, e.Retryable, code, retryable, err)
	}
	for _, piece := range pieces {
		if !strings.Contains(e.Message, piece) {
			t.Errorf("message %q does not say %q", e.Message, piece)
		}
	}
}

// outgoing is a part that a test sends to a sink, frame by frame.
type outgoing struct {
	sdk.PartInfo
	content []byte
	frame   int // bytes per frame; 0: all in one
}

func text(name, content string) outgoing {
	return outgoing{PartInfo: sdk.PartInfo{Name: name, Size: int64(len(content))}, content: []byte(content)}
}

func (o outgoing) unsized() outgoing {
	o.Size = sdk.SizeUnknown
	return o
}

// writing is a flow into the sink, as a host drives it.
type writing struct {
	stream sdk.WriteStream
	sent   sdk.Totals
}

func startWriting(t *testing.T, p sdk.Plugin, open sdk.WriteOpen) *writing {
	t.Helper()
	stream, err := sdk.NewDataSink(p.Sinks[0]).Write(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stream.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &writing{stream: stream}
}

// begin opens a part.
func (w *writing) begin(info sdk.PartInfo) error {
	info.Index = uint64(w.sent.Parts)
	return w.stream.Send(&sdk.PartBegin{PartInfo: info})
}

func (w *writing) data(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return w.stream.Send(&sdk.Data{Payload: sdk.BytesPayload(b)})
}

func (w *writing) finish(content []byte) error {
	d := sdk.NewDigester(sdk.CRC32C)
	d.Write(content)
	w.sent.Parts++
	w.sent.Bytes += int64(len(content))
	return w.stream.Send(&sdk.PartEnd{Size: int64(len(content)), Digests: d.Sum()})
}

// part sends a whole part.
func (w *writing) part(o outgoing) error {
	if err := w.begin(o.PartInfo); err != nil {
		return err
	}
	for rest := o.content; len(rest) > 0; {
		n := len(rest)
		if o.frame > 0 {
			n = min(n, o.frame)
		}
		if err := w.data(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return w.finish(o.content)
}

// outcome reads what the sink says until it is done or fails.
func (w *writing) outcome() ([]*sdk.PartWritten, error) {
	var written []*sdk.PartWritten
	for {
		up, err := w.stream.Recv()
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		if p, ok := up.(*sdk.PartWritten); ok {
			written = append(written, p)
		}
	}
}

// write sends parts to an address and returns the sink's receipts.
func write(t *testing.T, p sdk.Plugin, a sdk.DataAddress, parts ...outgoing) ([]*sdk.PartWritten, error) {
	t.Helper()
	return writeFlow(t, p, sdk.WriteOpen{Flow: sdk.FlowContext{ID: "flow-1"}, Address: a}, 0, parts...)
}

// writeFlow is write for a flow that goes on at the part with index first.
func writeFlow(t *testing.T, p sdk.Plugin, open sdk.WriteOpen, first int64, parts ...outgoing) ([]*sdk.PartWritten, error) {
	t.Helper()
	w := startWriting(t, p, open)
	go func() {
		w.sent.Parts = first
		for _, o := range parts {
			if w.part(o) != nil {
				return // the sink's error is what counts
			}
		}
		w.sent.Parts -= first
		w.stream.Send(&sdk.End{Totals: w.sent})
	}()
	return w.outcome()
}

func parseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

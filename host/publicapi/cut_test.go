package publicapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// protocols runs a test over HTTP/1.1 and HTTP/2.
func protocols(t *testing.T, test func(t *testing.T, start func(func(*world, *Options)) *world)) {
	t.Run("http1", func(t *testing.T) {
		test(t, func(change func(*world, *Options)) *world { return newWorld(t, change) })
	})
	t.Run("http2", func(t *testing.T) {
		test(t, func(change func(*world, *Options)) *world {
			w := newWorld(t, change)
			useHTTP2(t, w)
			return w
		})
	})
}

// A pull that is cut in its middle ends with an error at the client, whether its length was announced or not, and suspend returns
// only when the request is over.
func TestSuspendCutsPull(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		for _, accept := range []string{"*/*", "multipart/mixed"} {
			gate := sdktest.NewGate(256 << 10)
			w := start(func(w *world, _ *Options) { w.memory.Reading = gate.Hook })
			w.memory.Put("d", noise(4<<20, 1))
			a := w.pull("f")
			res, err := w.send(a, a.Endpoint, request{header: h("Accept", accept)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, res.Body, 128<<10); err != nil {
				t.Fatal(err)
			}
			<-gate.Reached()
			w.flows.stop(key("f"), flow.Suspended)
			if n := w.flows.visiting(key("f")); n != 0 {
				t.Errorf("%d requests are inside a suspended flow", n)
			}
			if _, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Error("the client took half for whole")
			}
			res.Body.Close()
			if n := w.flows.recorded(key("f")); len(n) > 0 {
				t.Errorf("recorded %v", n)
			}
			if p := w.get(a, nil).wantStatus(t, http.StatusForbidden); p.State != flow.Suspended {
				t.Errorf("problem %+v", p)
			}
			// The client may know before the handler has counted.
			w.eventually("one cut is counted", func() bool {
				return w.metric("towpath_public_cut_total", map[string]string{"reason": "stopped"}) == 1
			})
		}
	})
}

// A client that does not read does not hold up a suspend.
func TestSuspendCutsStalledReader(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(nil)
		w.memory.Put("d", make([]byte, 64<<20))
		a := w.pull("f")
		res, err := w.send(a, a.Endpoint, request{})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		w.flows.stop(key("f"), flow.Terminated)
		if n, err := io.Copy(io.Discard, res.Body); err == nil {
			t.Errorf("read %d bytes and a proper end", n)
		}
	})
}

// A suspend that comes before the first byte gets a proper answer out.
func TestSuspendBeforeTheAnswer(t *testing.T) {
	w := newWorld(t, nil)
	reading := make(chan struct{})
	w.source = scripted(func(sdk.ReadOpen) ([]sdk.Frame, error) {
		close(reading)
		return nil, errForever
	})
	a := w.pull("f")
	go func() {
		<-reading
		w.flows.stop(key("f"), flow.Suspended)
	}()
	w.get(a, nil).wantStatus(t, http.StatusForbidden)
}

func TestSourceFailsInTheMiddle(t *testing.T) {
	begin := func(size int64) *sdk.PartBegin {
		return &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "d", Size: size, TotalParts: 1}}
	}
	crc := func(s string) sdk.Digests {
		d := sdk.NewDigester(sdk.CRC32C)
		io.WriteString(d, s)
		return d.Sum()
	}
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		for _, tc := range []struct {
			name   string
			frames func() []sdk.Frame
			err    error
		}{
			{"error", func() []sdk.Frame { return []sdk.Frame{begin(8), buffered(t, "1234")} }, sdk.Errorf(sdk.Internal, "inside")},
			{"error, length unknown", func() []sdk.Frame { return []sdk.Frame{begin(-1), buffered(t, "1234")} }, sdk.Errorf(sdk.Internal, "inside")},
			{"end of stream", func() []sdk.Frame { return []sdk.Frame{begin(-1), buffered(t, "1234")} }, io.EOF},
			{"end of stream behind the part", func() []sdk.Frame {
				return []sdk.Frame{begin(4), buffered(t, "1234"), &sdk.PartEnd{Size: 4}}
			}, io.EOF},
			{"wrong digest", func() []sdk.Frame {
				return []sdk.Frame{begin(8), buffered(t, "1234"), buffered(t, "5678"), &sdk.PartEnd{Size: 8, Digests: crc("12345679")}, &sdk.End{}}
			}, io.EOF},
			{"wrong digest, length unknown", func() []sdk.Frame {
				return []sdk.Frame{begin(-1), buffered(t, "1234"), &sdk.PartEnd{Size: 4, Digests: crc("1235")}, &sdk.End{}}
			}, io.EOF},
			{"wrong digest of one frame", func() []sdk.Frame {
				return []sdk.Frame{begin(4), buffered(t, "1234"), &sdk.PartEnd{Size: 4, Digests: crc("1235")}, &sdk.End{}}
			}, io.EOF},
			{"shorter", func() []sdk.Frame {
				return []sdk.Frame{begin(8), buffered(t, "1234"), &sdk.PartEnd{Size: 4}, &sdk.End{}}
			}, io.EOF},
			{"longer", func() []sdk.Frame {
				return []sdk.Frame{begin(4), buffered(t, "1234"), buffered(t, "5"), &sdk.PartEnd{Size: 5}, &sdk.End{}}
			}, io.EOF},
			{"longer in one frame", func() []sdk.Frame {
				return []sdk.Frame{begin(4), buffered(t, "12345"), &sdk.PartEnd{Size: 5}, &sdk.End{}}
			}, io.EOF},
			{"counted otherwise", func() []sdk.Frame {
				return []sdk.Frame{begin(-1), buffered(t, "1234"), &sdk.PartEnd{Size: 5}, &sdk.End{}}
			}, io.EOF},
			{"a second part behind the only one", func() []sdk.Frame {
				return []sdk.Frame{begin(4), buffered(t, "1234"), &sdk.PartEnd{Size: 4}, begin(4), buffered(t, "1234"), &sdk.PartEnd{Size: 4}, &sdk.End{}}
			}, io.EOF},
			{"a part within the part", func() []sdk.Frame { return []sdk.Frame{begin(4), buffered(t, "12"), begin(4)} }, io.EOF},
			{"records in a part of bytes", func() []sdk.Frame {
				return []sdk.Frame{begin(4), &sdk.RecordBatch{Batch: sdk.RecordsBatch{{}}}}
			}, io.EOF},
		} {
			t.Run(tc.name, func(t *testing.T) {
				w := start(nil)
				w.source = scripted(func(sdk.ReadOpen) ([]sdk.Frame, error) { return tc.frames(), tc.err })
				a := w.pull("f")
				res, err := w.send(a, a.Endpoint, request{})
				if err == nil {
					var n int64
					n, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if err == nil {
						t.Errorf("%d bytes and a proper end", n)
					}
				}
				if n := w.flows.recorded(key("f")); len(n) > 0 {
					t.Errorf("recorded %v", n)
				}
				if !strings.Contains(w.log.String(), "level=ERROR") {
					t.Errorf("not logged: %s", w.log)
				}
			})
		}
	})
}

// Frames that the source sends behind an error, or that a client's end leaves unread, are released: newWorld checks the buffers.
func TestClientHangsUp(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("d", make([]byte, 32<<20))
	a := w.pull("f")
	res, err := w.send(a, a.Endpoint, request{})
	if err != nil {
		t.Fatal(err)
	}
	io.CopyN(io.Discard, res.Body, 100)
	res.Body.Close()
	w.client.CloseIdleConnections()
	w.server.Close() // waits for the request
	if n := w.flows.visiting(key("f")); n != 0 {
		t.Errorf("%d requests are left inside", n)
	}
	if strings.Contains(w.log.String(), "level=ERROR") {
		t.Errorf("a client that goes is no fault of ours: %s", w.log)
	}
}

// Over HTTP/1.0 the end of a body of unknown length is the end of the connection, which is no proof of anything.
func TestHTTP10(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("d", []byte("content"))
	a := w.pull("f")
	get := func() *http.Response {
		t.Helper()
		c, err := net.Dial("tcp", w.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET /flows/f HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n", a.Get("authorization"))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	res := get()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "content" || res.StatusCode != 200 {
		t.Errorf("known length: %d %q, %v", res.StatusCode, body, err)
	}
	w.memory.Put("e", []byte("content"))
	if res := get(); res.StatusCode != http.StatusHTTPVersionNotSupported {
		t.Errorf("list: %d", res.StatusCode)
	}
}

// A reader that takes nothing is given up after the idle timeout; one that is slow, but takes something, is not.
func TestStalledReaderIsGivenUp(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Limits.IdleTimeout = 50 * time.Millisecond })
	w.memory.Put("d", make([]byte, 64<<20))
	a := w.pull("f")
	res, err := w.send(a, a.Endpoint, request{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	w.server.Close() // waits for the request, which ends by itself
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Error("the whole part came")
	}
}

// The idle timeout is about the client. While a source is silent the answer stays open, over HTTP/2 too.
func TestSilentSourceIsNotTheClientsFault(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		gate := sdktest.NewGate(64 << 10)
		w := start(func(w *world, o *Options) {
			o.Limits.IdleTimeout = 200 * time.Millisecond
			w.memory.Reading = gate.Hook
		})
		content := noise(128<<10, 1)
		w.memory.Put("d", content)
		a := w.pull("f")
		res, err := w.send(a, a.Endpoint, request{})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		first := make([]byte, 32<<10)
		if _, err := io.ReadFull(res.Body, first); err != nil {
			t.Fatal(err)
		}
		<-gate.Reached()
		time.AfterFunc(600*time.Millisecond, gate.Open)
		rest, err := io.ReadAll(res.Body)
		if err != nil || string(first)+string(rest) != string(content) {
			t.Errorf("%d bytes, %v", len(first)+len(rest), err)
		}
	})
}

// Nor is it the client's fault if the sink does not move.
func TestSilentSinkIsNotTheClientsFault(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		gate := sdktest.NewGate(1)
		w := start(func(w *world, o *Options) {
			o.Limits.IdleTimeout = 200 * time.Millisecond
			w.memory.Writing = gate.Hook
		})
		a := w.push("f")
		go func() {
			<-gate.Reached()
			time.AfterFunc(600*time.Millisecond, gate.Open)
		}()
		content := string(noise(8<<20, 1))
		w.put(a, "d", content, nil).wantPart(t, http.StatusCreated, "d", content)
	})
}

func TestSourceThatNeverBegins(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Limits.IdleTimeout = 20 * time.Millisecond })
	w.source = scripted(func(sdk.ReadOpen) ([]sdk.Frame, error) { return nil, errForever })
	w.get(w.pull("f"), nil).wantStatus(t, http.StatusGatewayTimeout)
}

func TestMaxDuration(t *testing.T) {
	w := newWorld(t, func(_ *world, o *Options) { o.Limits.MaxDuration = 30 * time.Millisecond })
	w.source = scripted(func(open sdk.ReadOpen) ([]sdk.Frame, error) {
		if open.Flow.ID == "g" {
			return nil, errForever
		}
		begin := &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "d", Size: 8, TotalParts: 1}}
		return []sdk.Frame{begin, buffered(t, "1234")}, errForever
	})
	a := w.pull("f")
	if res, err := w.send(a, a.Endpoint, request{}); err == nil {
		if _, err := io.Copy(io.Discard, res.Body); err == nil {
			t.Error("the client took half for whole")
		}
		res.Body.Close()
	}
	w.get(w.pull("g"), nil).wantStatus(t, http.StatusGatewayTimeout)

	a = w.push("h")
	body, pipe := io.Pipe()
	defer pipe.Close()
	go io.WriteString(pipe, "first")
	w.do(a, a.Endpoint+"/x", request{method: http.MethodPut, body: body}).wantStatus(t, http.StatusRequestTimeout)
}

// A record that cannot be stored does not take from the client what it has.
func TestRecordFails(t *testing.T) {
	w := newWorld(t, nil)
	w.memory.Put("d", []byte("x"))
	a := w.pull("f")
	w.flows.breakDown(errors.New("disk full"))
	w.get(a, nil).wantBody(t, http.StatusOK, "x")
	w.server.Close() // waits for the request
	if !strings.Contains(w.log.String(), "disk full") {
		t.Errorf("not logged: %s", w.log)
	}
}

// lastMinute is a flow service on which a flow is suspended when its part was read whole, just before the request leaves.
type lastMinute struct {
	*flows
	inside  sync.Map // by key, the context of the last request
	stopped chan struct{}
}

func (s *lastMinute) Join(ctx context.Context, key flow.Key) (*flow.Joined, error) {
	joined, err := s.flows.Join(ctx, key)
	if err == nil {
		s.inside.Store(key, joined.Context)
	}
	return joined, err
}

func (s *lastMinute) Record(ctx context.Context, key flow.Key, parts ...flow.Part) error {
	err := s.flows.Record(ctx, key, parts...)
	go func() {
		s.stop(key, flow.Suspended)
		s.stopped <- struct{}{}
	}()
	inside, _ := s.inside.Load(key)
	<-inside.(context.Context).Done()
	return err
}

// A client that has its answer is not made to suffer for the suspend when it uses the connection again.
func TestConnectionOutlivesACut(t *testing.T) {
	service := &lastMinute{stopped: make(chan struct{})}
	w := newWorld(t, func(w *world, o *Options) {
		service.flows = w.flows
		o.Flows = service
	})
	w.memory.Put("d", []byte("x"))
	other := w.pull("other")
	for range 20 {
		a := w.pull("f")
		w.get(a, nil).wantBody(t, http.StatusOK, "x")
		<-service.stopped
		w.get(a, nil).wantStatus(t, http.StatusForbidden)
		w.do(other, other.Endpoint, request{method: http.MethodHead}).wantStatus(t, http.StatusOK)
	}
}

// A request whose connection has ended in one direction can still be answered: the answer is not one that stays.
func TestClientThatIsHalfGone(t *testing.T) {
	for _, err := range []error{errClientGone, fmt.Errorf("read part: %w", context.Canceled)} {
		if p := problemOf(err); p.Status != http.StatusBadRequest || p.header.Get("Retry-After") == "" {
			t.Errorf("%v: %d %v", err, p.Status, p.header)
		}
	}
}

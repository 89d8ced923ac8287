package publicapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// pipes is a listener for connections without buffers, in which time is a bubble's.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// bubble serves one connection whose clock a test controls, and returns the client's end.
func bubble(t *testing.T, w *world, idle time.Duration, meter ...Meter) (client net.Conn, stop func()) {
	t.Helper()
	o := Options{
		Flows: w.flows, Responses: w.flows, Tokens: w.tokens, JWKS: w.tokens.JWKS(), PublicURL: "http://x",
		Source: w.findSource, Sink: w.findSink, Limits: Limits{IdleTimeout: idle},
	}
	if len(meter) > 0 {
		o.Meter = func(*flow.Flow) Meter { return meter[0] }
	}
	handler, err := NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	listener := make(pipes, 1)
	client, conn := net.Pipe()
	listener <- conn
	done := make(chan struct{})
	go func() {
		server.Serve(listener)
		close(done)
	}()
	return client, func() {
		client.Close()
		server.Close()
		<-done
		synctest.Wait()
	}
}

// stallWorld has a flow for each direction, without a server.
func stallWorld(t *testing.T) (w *world, pull, push sdk.DataAddress) {
	w = &world{t: t, flows: newFlows(), memory: &sdktest.Memory{}, tokens: newAuthority(t, nil)}
	endpoint, err := NewEndpoint(EndpointOptions{PublicURL: "http://x", Tokens: w.tokens, EndpointType: func(p string) string { return p }})
	if err != nil {
		t.Fatal(err)
	}
	w.endpoint = endpoint
	return w, w.pull("f"), w.push("f2")
}

// A reader that is slow, but takes something within each idle timeout, gets everything, however long it takes.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 10 * time.Second
		w, a, _ := stallWorld(t)
		content := noise(1<<20, 1)
		w.memory.Put("d", content)
		client, stop := bubble(t, w, idle)
		defer stop()
		go fmt.Fprintf(client, "GET /flows/f HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", a.Get("authorization"))
		begun := time.Now()
		res, err := http.ReadResponse(bufio.NewReaderSize(client, 1<<10), nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for piece := make([]byte, pieceSize/2); ; {
			time.Sleep(idle * 2 / 5)
			n, err := io.ReadFull(res.Body, piece)
			got = append(got, piece[:n]...)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != string(content) || time.Since(begun) < 10*idle {
			t.Errorf("%d bytes in %v", len(got), time.Since(begun))
		}
	})
}

func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 10 * time.Second
		w, a, _ := stallWorld(t)
		w.memory.Put("d", noise(1<<20, 1))
		client, stop := bubble(t, w, idle)
		defer stop()
		go fmt.Fprintf(client, "GET /flows/f HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", a.Get("authorization"))
		synctest.Wait()
		time.Sleep(idle - time.Second)
		synctest.Wait()
		if w.flows.visiting(key("f")) != 1 {
			t.Fatal("the request does not run before the idle timeout")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if w.flows.visiting(key("f")) != 0 {
			t.Error("the request runs after the idle timeout")
		}
	})
}

// A sender that is slow, but sends something within each idle timeout, is heard to its end.
func TestSlowSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 10 * time.Second
		w, _, a := stallWorld(t)
		client, stop := bubble(t, w, idle)
		defer stop()
		go func() {
			fmt.Fprintf(client, "PUT /ingest/f2/d HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 20\r\n\r\n", a.Get("authorization"))
			for i := range 20 {
				time.Sleep(idle * 4 / 5)
				fmt.Fprint(client, i%10)
			}
		}()
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil || res.StatusCode != http.StatusCreated {
			t.Fatalf("%+v, %v", res, err)
		}
		io.Copy(io.Discard, res.Body)
		w.wantContent(map[string]string{"d": "01234567890123456789"})
	})
}

func TestStalledSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 10 * time.Second
		w, _, a := stallWorld(t)
		client, stop := bubble(t, w, idle)
		defer stop()
		begun := time.Now()
		go fmt.Fprintf(client, "PUT /ingest/f2/d HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 20\r\n\r\n12345", a.Get("authorization"))
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil || res.StatusCode != http.StatusRequestTimeout {
			t.Fatalf("%+v, %v", res, err)
		}
		if took := time.Since(begun); took != idle {
			t.Errorf("answered after %v", took)
		}
		io.Copy(io.Discard, res.Body)
		w.wantContent(map[string]string{})
	})
}

// A sink that stands still holds up who sends, on a response channel as for a flow's data, and no more than a little of the part waits here.
func TestSinkStandsStill(t *testing.T) {
	const size, most = 16 << 20, 4 << 20
	for name, c := range map[string]struct {
		path    string
		address func(w *world, push sdk.DataAddress) sdk.DataAddress
	}{
		"data":             {"/ingest/f2/d", func(_ *world, push sdk.DataAddress) sdk.DataAddress { return push }},
		"response channel": {"/responses/f3/d", func(w *world, _ sdk.DataAddress) sdk.DataAddress { return w.respond(w.flows, "f3", flow.Started) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _, push := stallWorld(t)
				a, gate := c.address(w, push), sdktest.NewGate(1)
				w.memory.Writing = gate.Hook
				client, stop := bubble(t, w, time.Minute)
				defer stop()
				content := string(noise(size, 1))
				var sent atomic.Int64
				go func() {
					fmt.Fprintf(client, "PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n",
						c.path, a.Get("authorization"), size)
					for piece := range slices.Chunk([]byte(content), 64<<10) {
						n, _ := client.Write(piece)
						sent.Add(int64(n))
					}
				}()
				synctest.Wait()
				select {
				case <-gate.Reached():
				default:
					t.Fatal("nothing reaches the sink")
				}
				if n := sent.Load(); n > most {
					t.Errorf("%d bytes are taken of who sends to a sink that stands still", n)
				}
				gate.Open()
				res, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil || res.StatusCode != http.StatusCreated {
					t.Fatalf("%+v, %v", res, err)
				}
				io.Copy(io.Discard, res.Body)
				w.wantContent(map[string]string{"d": content})
			})
		})
	}
}

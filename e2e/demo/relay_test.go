package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// echo answers with what it is sent.
func echo(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }

func newTestRelay(t *testing.T, base string, rate float64) *relay {
	t.Helper()
	r, err := newRelay(base, rate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func TestRelayPassesEverything(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(s.Close)
	r := newTestRelay(t, s.URL, 1e9)
	sent := bytes.Repeat([]byte("towpath"), 100_000)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+r.listener.Addr().String(), "application/octet-stream", bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d: %v", len(got), len(sent), err)
	}
}

// TestRelayPassesTheEnd: whoever sends half and goes must not leave the server waiting.
func TestRelayPassesTheEnd(t *testing.T) {
	ended := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}))
	t.Cleanup(s.Close)
	r := newTestRelay(t, s.URL, 1e9)
	conn, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
	conn.Close()
	if err := <-ended; err == nil {
		t.Error("the server takes half for whole")
	}
}

func TestRelayIsClosedInTheMiddle(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(s.Close)
	r := newTestRelay(t, s.URL, 1) // a byte a second: nothing is through before it is closed
	begun := make(chan struct{})
	body := io.MultiReader(strings.NewReader("x"), first{begun, io.LimitReader(zeros{}, 1<<20)})
	done := make(chan error)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		resp, err := client.Post("http://"+r.listener.Addr().String(), "application/octet-stream", body)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		done <- err
	}()
	<-begun
	r.close()
	if err := <-done; err == nil {
		t.Error("the client is told that all is well")
	}
}

// first closes a channel at the first read.
type first struct {
	begun chan struct{}
	io.Reader
}

func (f first) Read(b []byte) (int, error) {
	select {
	case <-f.begun:
	default:
		close(f.begun)
	}
	return f.Reader.Read(b)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestRelayWithoutServer(t *testing.T) {
	free, err := freeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	r := newTestRelay(t, "http://"+free[0], 1e9)
	conn, err := net.Dial("tcp", r.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes from nobody", n)
	}
}

func TestThrough(t *testing.T) {
	r := newTestRelay(t, "http://127.0.0.1:1", 1)
	here := "http://" + r.listener.Addr().String()
	a := &dataAddress{Kind: "DataAddress", EndpointType: "HttpData", Endpoint: "http://127.0.0.1:1/ingest/f", Properties: []endpointProperty{
		{"EndpointProperty", "manifestUrl", "http://127.0.0.1:1/manifests/f"}, {"EndpointProperty", "authType", "bearer"},
		{"EndpointProperty", "other", "http://127.0.0.1:11/f"},
	}}
	want := &dataAddress{Kind: "DataAddress", EndpointType: "HttpData", Endpoint: here + "/ingest/f", Properties: []endpointProperty{
		{"EndpointProperty", "manifestUrl", here + "/manifests/f"}, {"EndpointProperty", "authType", "bearer"},
		{"EndpointProperty", "other", "http://127.0.0.1:11/f"},
	}}
	if diff := cmp.Diff(want, r.through(a)); diff != "" {
		t.Error(diff)
	}
	if a.Endpoint != "http://127.0.0.1:1/ingest/f" || a.property("manifestUrl") != "http://127.0.0.1:1/manifests/f" {
		t.Errorf("the address itself has changed: %+v", a)
	}
}

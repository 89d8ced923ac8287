package publicapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// watches is a Meter that tells how long a request has waited for whom. It lets everything pass.
type watches struct {
	at     string
	since  time.Time
	waited map[string]time.Duration
	closed bool
}

func (w *watches) put(at string) {
	now := time.Now()
	if w.waited == nil {
		w.waited, w.at, w.since = map[string]time.Duration{}, "host", now
	}
	w.waited[w.at] += now.Sub(w.since)
	w.at, w.since = at, now
}

func (w *watches) Wait(context.Context, int64, int64) error { return nil }
func (w *watches) Source()                                  { w.put("source") }
func (w *watches) Host()                                    { w.put("host") }
func (w *watches) Sink()                                    { w.put("sink") }
func (w *watches) Close()                                   { w.put("closed"); w.closed = true }

// Whoever a request waits for is who its time is put down to, whether that is a plugin or the client.
func TestWhoBlocksARequest(t *testing.T) {
	const size, pause = 1 << 20, time.Second
	slow := func(context.Context, sdktest.Point) error {
		time.Sleep(pause)
		return nil
	}
	drain := func(client net.Conn) (*http.Response, error) {
		res, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		}
		return res, err
	}
	get := func(w *world, a sdk.DataAddress, client net.Conn) {
		fmt.Fprintf(client, "GET /flows/f HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", a.Get("authorization"))
	}
	put := func(a sdk.DataAddress, client net.Conn, pause time.Duration) {
		fmt.Fprintf(client, "PUT /ingest/f2/e HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n", a.Get("authorization"), size)
		for content := noise(size, 1); len(content) > 0; content = content[min(len(content), size/16):] {
			time.Sleep(pause)
			client.Write(content[:min(len(content), size/16)])
		}
	}
	for name, tc := range map[string]struct {
		ask    func(w *world, pull, push sdk.DataAddress, client net.Conn) (*http.Response, error)
		blocks string
	}{
		"pull, slow source": {func(w *world, pull, _ sdk.DataAddress, client net.Conn) (*http.Response, error) {
			w.memory.Reading = slow
			go get(w, pull, client)
			return drain(client)
		}, "source"},
		"pull, slow client": {func(w *world, pull, _ sdk.DataAddress, client net.Conn) (*http.Response, error) {
			go get(w, pull, client)
			res, err := http.ReadResponse(bufio.NewReaderSize(client, 1<<10), nil)
			for piece := make([]byte, size/16); err == nil; {
				time.Sleep(pause)
				_, err = io.ReadFull(res.Body, piece)
			}
			if err == io.EOF {
				err = nil
			}
			return res, err
		}, "sink"},
		"ingest, slow client": {func(_ *world, _, push sdk.DataAddress, client net.Conn) (*http.Response, error) {
			go put(push, client, pause)
			return drain(client)
		}, "source"},
		"ingest, slow sink": {func(w *world, _, push sdk.DataAddress, client net.Conn) (*http.Response, error) {
			w.memory.Writing = slow
			go put(push, client, 0)
			return drain(client)
		}, "sink"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, pull, push := stallWorld(t)
				w.memory.Put("d", noise(size, 1))
				kept := &watches{}
				client, stop := bubble(t, w, 10*time.Second, kept)
				res, err := tc.ask(w, pull, push, client)
				stop()
				if err != nil || res.StatusCode/100 != 2 {
					t.Fatalf("%+v, %v", res, err)
				}
				var sum time.Duration
				for _, d := range kept.waited {
					sum += d
				}
				if !kept.closed || sum < pause || kept.waited[tc.blocks] < sum*9/10 {
					t.Errorf("closed: %v, %v", kept.closed, kept.waited)
				}
			})
		})
	}
}

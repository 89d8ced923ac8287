package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestRequestsOfSinks(t *testing.T) {
	modified := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	described := text("folder/ä b.csv", "1;2")
	described.MediaType, described.Modified = "text/csv", modified
	for _, tt := range []struct {
		name    string
		address func(url string) sdk.DataAddress
		parts   []outgoing
	}{
		{"sink-edc", func(url string) sdk.DataAddress {
			return edc(url+"/in", "path", "sub", "queryParams", "x=1", "authKey", "X-Api-Key", "authCode", "secret", "header:X-One", "1",
				"header:Content-Type", "ignored/type", "contentType", "text/plain")
		}, []outgoing{described, text("plain", "x")}},
		{"sink-dps", func(url string) sdk.DataAddress {
			return dps(url+"/ingest/1", "authorization", "token", "authType", "bearer")
		}, []outgoing{text("a", "abc"), text("empty", ""), text("b", "streamed").unsized()}},
		{"sink-put", func(url string) sdk.DataAddress {
			return edc(url+"/x", "method", "PUT")
		}, []outgoing{text(`quote".txt`, "x")}},
		{"sink-never-chunked", func(url string) sdk.DataAddress {
			return edc(url, "nonChunkedTransfer", "true")
		}, []outgoing{text("a", "streamed").unsized(), text("empty", "").unsized()}},
		{"sink-manifest", func(url string) sdk.DataAddress {
			return dps(url+"/ingest/1", "authorization", "token", "manifestUrl", url+"/manifests/1?x=y", "digests", "sha256, md5")
		}, []outgoing{text("a", "abc"), text("empty", "").unsized()}},
		{"sink-manifest-empty", func(url string) sdk.DataAddress {
			return dps(url+"/ingest/1", "manifestUrl", url+"/manifests/1")
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r recorder
			server := newServer(t, r.ServeHTTP)
			written, err := write(t, newTestPlugin(t, loopback()), tt.address(server.URL), tt.parts...)
			if err != nil {
				t.Fatal(err)
			}
			if len(written) != len(tt.parts) {
				t.Errorf("%d receipts for %d parts", len(written), len(tt.parts))
			}
			r.checkGolden(t, tt.name)
		})
	}
}

func TestLargePartsAreAskedFor(t *testing.T) {
	var expects []string
	server := newServer(t, func(_ http.ResponseWriter, req *http.Request) {
		expects = append(expects, fmt.Sprintf("%s %d", req.Header.Get("Expect"), req.ContentLength))
		io.Copy(io.Discard, req.Body)
	})
	exact := text("exact", strings.Repeat("x", expectAbove))
	above := text("above", strings.Repeat("x", expectAbove+1))
	small := text("small", "x")
	if _, err := write(t, newTestPlugin(t, loopback()), edc(server.URL), exact, above, small, small.unsized()); err != nil {
		t.Fatal(err)
	}
	want := []string{" 1048576", "100-continue 1048577", " 1", "100-continue -1"}
	if diff := cmp.Diff(want, expects); diff != "" {
		t.Errorf("Expect (-want +got):\n%s", diff)
	}
}

func TestLocations(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if to := req.URL.Query().Get("to"); to != "" {
			w.Header().Set("Location", to)
		}
		w.WriteHeader(http.StatusCreated)
	})
	p := newTestPlugin(t, loopback())
	for to, want := range map[string]string{
		"":                                     server.URL + "/in",
		"/stored/1?sig=secret":                 server.URL + "/stored/1",
		"https://user:pw@b.example/x?secret#y": "https://b.example/x",
		"http://[::1/":                         server.URL + "/in",
	} {
		u := parseURL(t, server.URL+"/in")
		query := u.Query()
		query.Set("to", to)
		u.RawQuery = query.Encode()
		written, err := write(t, p, edc(u.String()), text("a", "a"))
		if err != nil {
			t.Fatal(err)
		}
		if written[0].Location != want {
			t.Errorf("%q: location %q, want %q", to, written[0].Location, want)
		}
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var seen sync.Map
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		seen.Store(req.RemoteAddr, true)
		io.Copy(io.Discard, req.Body)
		io.WriteString(w, "thank you")
	})
	parts := []outgoing{text("empty", "")}
	for i := range 30 {
		parts = append(parts, text(fmt.Sprint(i), "a"))
	}
	if _, err := write(t, newTestPlugin(t, loopback()), edc(server.URL), parts...); err != nil {
		t.Fatal(err)
	}
	connections := 0
	seen.Range(func(any, any) bool { connections++; return true })
	// The transport gives a connection back in its own time, and the next part may be quicker.
	if connections > len(parts)/2 {
		t.Errorf("%d connections for %d parts", connections, len(parts))
	}
}

// A receiver that answers before it has the whole part ends the upload, and its answer is the error.
func TestReceiverThatAnswersEarly(t *testing.T) {
	for _, tt := range []struct {
		status    int
		code      sdk.Code
		retryable bool
	}{
		{http.StatusRequestEntityTooLarge, sdk.Exhausted, false},
		{http.StatusUnauthorized, sdk.Denied, false},
		{http.StatusServiceUnavailable, sdk.Unavailable, true},
		{http.StatusFound, sdk.Invalid, false},
		{http.StatusTemporaryRedirect, sdk.Invalid, false},
		{http.StatusOK, sdk.Corrupt, false},
	} {
		for _, size := range []int{2 * maxHeld, 32 << 20} {
			for _, read := range []int64{0, 10} {
				if size == 2*maxHeld && tt.status == http.StatusOK {
					continue // all of it may have been sent by then
				}
				t.Run(fmt.Sprintf("%d to %d bytes after %d", tt.status, size, read), func(t *testing.T) {
					answered := make(chan struct{})
					server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
						defer close(answered)
						io.CopyN(io.Discard, req.Body, read)
						w.Header().Set("Location", "/elsewhere")
						http.Error(w, "no more", tt.status)
					})
					w := startWriting(t, newTestPlugin(t, loopback()), sdk.WriteOpen{Address: edc(server.URL)})
					content := bytes.Repeat([]byte("x"), size)
					info := sdk.PartInfo{Name: "a", Size: int64(size)}
					go func() {
						// The end of the part is kept back until the answer is there.
						if w.begin(info) != nil || w.data(content[:size/2]) != nil {
							return
						}
						<-answered
						w.data(content[size/2:])
						w.finish(content)
						w.stream.Send(&sdk.End{Totals: w.sent})
					}()
					_, err := w.outcome()
					wantError(t, err, tt.code, tt.retryable, fmt.Sprint(tt.status))
				})
			}
		}
	}
}

func TestReceiverThatResets(t *testing.T) {
	url := newRawServer(t, func(conn net.Conn, req *http.Request) {
		io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		io.CopyN(io.Discard, req.Body, 10)
		reset(conn)
	})
	p := newTestPlugin(t, loopback())
	for range 20 { // whether reading or writing notices first is chance
		_, err := write(t, p, edc(url+"?secret"), text("a", strings.Repeat("x", 2<<20)))
		wantError(t, err, sdk.Unavailable, true, "POST "+url+": ")
		if strings.Contains(err.Error(), net.ErrClosed.Error()) {
			t.Fatalf("the error does not say what the receiver did: %v", err)
		}
	}
	_, err := write(t, p, edc(url+"?secret"), text("a", "small"))
	wantError(t, err, sdk.Unavailable, true, "POST "+url+": ")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error repeats the query: %v", err)
	}
}

func TestReceiversThatStall(t *testing.T) {
	p := newTestPlugin(t, loopback().with("idle_timeout", "100ms").with("timeout", "100ms"))
	t.Run("while the body comes", func(t *testing.T) {
		release := make(chan struct{})
		url := newRawServer(t, func(conn net.Conn, _ *http.Request) {
			io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			<-release // reads nothing
		})
		defer close(release)
		_, err := write(t, p, edc(url), text("a", strings.Repeat("x", 64<<20)))
		wantError(t, err, sdk.Unavailable, true, "timeout")
	})
	t.Run("after the body", func(t *testing.T) {
		url := newRawServer(t, func(conn net.Conn, _ *http.Request) { stall(conn) })
		_, err := write(t, p, edc(url), text("a", "a"))
		wantError(t, err, sdk.Unavailable, true, "timeout")
	})
}

// The receiver sees what is not whole as not whole, by its length or by its chunks.
func TestPartsThatBreak(t *testing.T) {
	content := strings.Repeat("0123", maxHeld/4+1)
	const size = maxHeld + 4
	for _, tt := range []struct {
		name   string
		size   int64
		change func(*sdk.PartEnd)
	}{
		{"wrong digest", size, func(e *sdk.PartEnd) { e.Digests[sdk.CRC32C][0] ^= 1 }},
		{"wrong digest, size not known", sdk.SizeUnknown, func(e *sdk.PartEnd) { e.Digests[sdk.CRC32C][0] ^= 1 }},
		{"short", size + 1, func(*sdk.PartEnd) {}},
		{"long", size - 1, func(*sdk.PartEnd) {}},
		{"long by everything", 0, func(*sdk.PartEnd) {}},
		{"long by much", 4, func(*sdk.PartEnd) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			whole := make(chan error, 1)
			server := newServer(t, func(_ http.ResponseWriter, req *http.Request) {
				_, err := io.Copy(io.Discard, req.Body)
				whole <- err
			})
			w := startWriting(t, newTestPlugin(t, loopback()), sdk.WriteOpen{Address: edc(server.URL)})
			go func() {
				w.begin(sdk.PartInfo{Name: "a", Size: tt.size})
				w.data([]byte(content))
				d := sdk.NewDigester(sdk.CRC32C)
				io.WriteString(d, content)
				end := &sdk.PartEnd{Size: size, Digests: d.Sum()}
				tt.change(end)
				w.stream.Send(end)
			}()
			_, err := w.outcome()
			wantError(t, err, sdk.Corrupt, false, `part "a"`)
			if tt.size >= 0 && tt.size <= maxHeld {
				return // the request is not begun
			}
			if err := <-whole; err == nil {
				t.Error("the receiver took the part for whole")
			}
		})
	}
}

func TestFlowThatIsCutWhileWriting(t *testing.T) {
	begun := make(chan struct{})
	whole := make(chan error, 1)
	server := newServer(t, func(_ http.ResponseWriter, req *http.Request) {
		io.ReadFull(req.Body, make([]byte, 1))
		close(begun)
		_, err := io.Copy(io.Discard, req.Body)
		whole <- err
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := sdk.NewDataSink(newTestPlugin(t, loopback()).Sinks[0]).Write(ctx, sdk.WriteOpen{Address: edc(server.URL)})
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "a", Size: maxHeld + 1}})
	stream.Send(&sdk.Data{Payload: sdk.BytesPayload("0123456789")})
	<-begun
	cancel()
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if err := <-whole; err == nil {
		t.Error("the receiver took the part for whole")
	}
}

func TestPartsThatASinkDoesNotTake(t *testing.T) {
	requests := 0
	server := newServer(t, func(_ http.ResponseWriter, req *http.Request) {
		requests++
		io.Copy(io.Discard, req.Body)
	})
	p := newTestPlugin(t, loopback())
	records := text("r", "")
	records.Records = true
	_, err := write(t, p, edc(server.URL), records)
	wantError(t, err, sdk.Unsupported, false, "records")
	_, err = write(t, p, edc(server.URL, "method", "PUT"), text("a", "a"), text("b", "b"))
	wantError(t, err, sdk.Invalid, false, `part "b"`, "PUT")
	several := text("a", "a")
	several.TotalParts = 2
	_, err = write(t, p, edc(server.URL, "method", "PUT"), several, text("b", "b"))
	wantError(t, err, sdk.Invalid, false, `part "a"`, "PUT")
	if requests != 1 {
		t.Errorf("%d requests, want 1", requests)
	}
}

func TestSpool(t *testing.T) {
	var lengths []int64
	server := newServer(t, func(_ http.ResponseWriter, req *http.Request) {
		n, err := io.Copy(io.Discard, req.Body)
		if err != nil {
			t.Error(err)
		}
		lengths = append(lengths, req.ContentLength, n)
	})
	p := newTestPlugin(t, loopback().with("max_spool", "1KiB"))
	a := edc(server.URL, "nonChunkedTransfer", "true")
	exact := text("exact", strings.Repeat("x", 1024))
	if _, err := write(t, p, a, exact.unsized(), text("known", strings.Repeat("x", 5000))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1024, 1024, 5000, 5000}, lengths); diff != "" {
		t.Errorf("lengths (-want +got):\n%s", diff)
	}
	_, err := write(t, p, a, text("large", strings.Repeat("x", 1025)).unsized())
	wantError(t, err, sdk.Exhausted, false, `part "large"`, "1024 bytes")

	env := environmentOf(p)
	left, err := os.ReadDir(env.scratchDir)
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	env.scratchDir += "/missing"
	_, err = write(t, p, a, exact.unsized())
	wantError(t, err, sdk.Internal, false, "store the part")
}

func TestReceiverThatRefusesWithAMessage(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"title":"Slow down","detail":"abcd-efgh has two uploads already"}`)
	})
	_, err := write(t, newTestPlugin(t, loopback()), dps(server.URL+"/in", "authorization", "abcd-efgh"), text("a", "a"))
	wantError(t, err, sdk.Unavailable, true, "POST "+server.URL+"/in: 429 Too Many Requests: ... has two uploads already")
	if got := sdk.AsError(err).RetryAfter; got != 7*time.Second {
		t.Errorf("retry after %s", got)
	}
}

func TestSinkAddressesThatAreRefused(t *testing.T) {
	ok := "https://a.example/in"
	for _, tt := range []struct {
		name    string
		address sdk.DataAddress
		field   string
	}{
		{"method", edc(ok, "method", "GET"), "method"},
		{"method DELETE", edc(ok, "method", "DELETE"), "method"},
		{"contentType", edc(ok, "contentType", "a\nb"), "contentType"},
		{"manifest on another host", dps(ok, "manifestUrl", "https://b.example/m"), "manifestUrl"},
		{"manifest on another port", dps(ok, "manifestUrl", "https://a.example:8443/m"), "manifestUrl"},
		{"manifest in plain HTTP", dps(ok, "manifestUrl", "http://a.example:443/m"), "manifestUrl"},
		{"manifest that is no URL", dps(ok, "manifestUrl", "/m"), "manifestUrl"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlugin()
			err := p.Sinks[0].Sink.(*sink).Validate(t.Context(), tt.address)
			wantError(t, err, sdk.Invalid, false)
			if fields := sdk.AsError(err).Fields; len(fields) == 0 || fields[0].Field != tt.field {
				t.Errorf("fields %v, want %s", fields, tt.field)
			}
		})
	}
}

// A content never gives its last byte before its part has ended well.
func TestContentHoldsBack(t *testing.T) {
	broken := errors.New("broken")
	for _, room := range []int{1, 2, 3, 100} {
		for _, size := range []int64{sdk.SizeUnknown, 5} {
			for _, end := range []error{io.EOF, broken} {
				part := io.MultiReader(strings.NewReader("01"), strings.NewReader("234"), errReader{end})
				c := newContent(part, size, sdk.NewDigester(sdk.CRC32C))
				var got []byte
				p := make([]byte, room)
				var err error
				for err == nil {
					var n int
					n, err = c.Read(p)
					got = append(got, p[:n]...)
				}
				want := "01234"
				if end != io.EOF {
					want = "0123"
				}
				if string(got) != want || err != end || c.whole() != (end == io.EOF) {
					t.Errorf("room %d, size %d: %q, %v, whole %t; want %q, %v", room, size, got, err, c.whole(), want, end)
				}
				if _, again := c.Read(p); again != end {
					t.Errorf("after the end: %v", again)
				}
			}
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

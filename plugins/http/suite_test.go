package main

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// newSuitePlugin returns a plugin that keeps no connection for long, because a suite counts goroutines after each of its tests.
func newSuitePlugin(t *testing.T) sdk.Plugin {
	t.Helper()
	p := newTestPlugin(t, loopback())
	for _, c := range []*client{environmentOf(p).reader, environmentOf(p).writer} {
		c.http.Transport.(*http.Transport).IdleConnTimeout = 10 * time.Millisecond
	}
	return p
}

// A listing with parts that have validators, on a server that takes ranges.
func TestSourceOfParts(t *testing.T) {
	parts := []sdktest.Content{
		{Name: "a/large.bin", Bytes: sdktest.Pattern(1, 3<<20+17)},
		{Name: "b empty"},
		{Name: "c/ü.txt", Bytes: []byte("x")},
	}
	mux := http.NewServeMux()
	var l listing
	for i, part := range parts {
		href := "/parts/" + string(rune('0'+i))
		size := int64(len(part.Bytes))
		etag := `"` + href + `"`
		l.Parts = append(l.Parts, listedPart{Name: part.Name, Size: &size, Href: href, ETag: etag})
		mux.HandleFunc("GET "+href, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("ETag", etag)
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(part.Bytes))
		})
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", listingMediaType)
		json.NewEncoder(w).Encode(l)
	})
	server := newServer(t, mux.ServeHTTP)
	sdktest.TestSource(t, sdktest.SourceCase{
		New: func(t *testing.T) sdk.DataSource {
			return sdk.NewDataSource(newSuitePlugin(t).Sources[0])
		},
		Address: dps(server.URL),
		Parts:   parts,
		Bad: []sdktest.BadAddress{
			{Name: "not there", Address: dps(server.URL + "/no"), Code: sdk.NotFound},
			{Name: "no URL", Address: edc(""), Code: sdk.Invalid},
		},
	})
}

func TestSourceOfOnePart(t *testing.T) {
	content := sdktest.Pattern(2, 2<<20+1)
	modified := time.Now().Add(-time.Hour)
	for name, h := range map[string]http.HandlerFunc{
		"ETag": func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
		},
		"date": func(w http.ResponseWriter, req *http.Request) {
			http.ServeContent(w, req, "", modified, bytes.NewReader(content))
		},
		"no validator": func(w http.ResponseWriter, req *http.Request) {
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(content))
		},
		"no ranges": func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			if req.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			w.Write(content)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t, h)
			sdktest.TestSource(t, sdktest.SourceCase{
				New: func(t *testing.T) sdk.DataSource {
					return sdk.NewDataSource(newSuitePlugin(t).Sources[0])
				},
				Address: edc(server.URL, "name", "one.bin"),
				Parts:   []sdktest.Content{{Name: "one.bin", Bytes: content}},
			})
		})
	}
}

// receiver stores a part when it has all of it, as an ingest does.
type receiver struct {
	mu    sync.Mutex
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
		panic(http.ErrAbortHandler) // hangs up at once; an answer would keep the connection for a while
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts[params["filename"]] = content
	w.WriteHeader(http.StatusCreated)
}

func (r *receiver) names() ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.parts)), nil
}

func (r *receiver) content(name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.parts[name], nil
}

func TestSinkSuite(t *testing.T) {
	for name, properties := range map[string][]string{"chunked": nil, "never chunked": {"nonChunkedTransfer", "true"}} {
		t.Run(name, func(t *testing.T) {
			sdktest.TestSink(t, sdktest.SinkCase{New: func(t *testing.T) sdktest.Store {
				r := &receiver{parts: map[string][]byte{}}
				server := newServer(t, r.ServeHTTP)
				return sdktest.Store{
					Sink:    sdk.NewDataSink(newSuitePlugin(t).Sinks[0]),
					Address: edc(server.URL, properties...),
					Names:   r.names,
					Content: r.content,
				}
			}})
		})
	}
}

func TestSourceThatProxies(t *testing.T) {
	sdktest.TestProxy(t, sdktest.ProxyCase{
		New: func(t *testing.T) sdk.DataSource { return sdk.NewDataSource(newSuitePlugin(t).Sources[0]) },
		Address: func(url string) sdk.DataAddress {
			return edc(url, "proxyMethod", "true", "proxyPath", "true", "proxyQueryParams", "true", "proxyBody", "true")
		},
	})
}

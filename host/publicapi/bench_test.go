package publicapi

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// BenchmarkPull reads a part of 256 MiB from memory through the public API, and the same bytes from net/http's own file server.
func BenchmarkPull(b *testing.B) {
	content := make([]byte, 256<<20)
	b.Run("publicapi", func(b *testing.B) {
		w := newWorld(b, func(w *world, _ *Options) { w.memory.Piece = len(content) })
		w.memory.Put("d", content)
		a := w.pull("f")
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			res, err := w.send(a, a.Endpoint, request{})
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, res.Body); err != nil || int(n) != len(content) {
				b.Fatalf("%d bytes, %v", n, err)
			}
			res.Body.Close()
		}
	})
	b.Run("net/http", func(b *testing.B) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "d", time.Time{}, bytes.NewReader(content))
		}))
		defer s.Close()
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			res, err := s.Client().Get(s.URL)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	})
}

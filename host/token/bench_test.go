package token_test

import (
	"path/filepath"
	"testing"

	"github.com/towpath-dataplane/towpath/host/token"
)

// BenchmarkVerify verifies a token that is remembered, which every request but the first does, and one that is looked up.
func BenchmarkVerify(b *testing.B) {
	w := newBench(b)
	raw, _ := issue(b, w.Authority, grant)
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Verify(b.Context(), raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("looked up", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a := w.with(b, func(*token.Config) {})
			if _, err := a.Verify(b.Context(), raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("foreign", func(b *testing.B) {
		stranger := w.with(b, func(c *token.Config) { c.Key = loadKey(b, filepath.Join(b.TempDir(), "key.pem")) })
		foreign, _ := issue(b, stranger, grant)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Verify(b.Context(), foreign); err == nil {
				b.Fatal("a foreign token is good")
			}
		}
	})
}

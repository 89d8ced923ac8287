package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGetFindsFullNames(t *testing.T) {
	a := DataAddress{Properties: map[string]string{
		"https://b.example/ns/token": "second", "https://a.example/ns#token": "first", "plain": "p", "https://x/plain": "not this"}}
	for name, want := range map[string]string{"token": "first", "plain": "p", "https://x/plain": "not this", "none": ""} {
		if got := a.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if s := fmt.Sprint(a); strings.Contains(s, "first") {
		t.Errorf("printing an address shows %s", s)
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "a/b.txt": true, "ü x/..y": true, "...": true,
		"": false, ".": false, "..": false, "../a": false, "a/../b": false, "/a": false, "a/": false, "a//b": false, "./a": false,
		`a\b`: false, "a\x00": false, "a\n": false, "a\x7f": false, "a\xff": false, strings.Repeat("x", 1025): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}

func TestSchemaCheck(t *testing.T) {
	s := Schema{Fields: []Field{
		{Name: "path", Required: true}, {Name: "count", Kind: Int}, {Name: "size", Kind: Size}, {Name: "on", Kind: Bool},
		{Name: "wait", Kind: Duration}, {Name: "url", Kind: URL}, {Name: "mode", OneOf: []string{"a", "b"}},
		{Name: "header:", Prefix: true}, {Name: "key", Kind: Int, Sensitive: true},
	}}
	got := s.Check(DataAddress{Type: "T", Properties: map[string]string{
		"count": "x", "size": "1KB", "on": "maybe", "wait": "5", "url": "/relative", "mode": "c", "header:X": "fine", "key": "planted", "more": "y"}})
	want := []string{
		`count: "x" is not a whole number`, `key: the value is not a whole number`, `mode: "c" is not one of a, b`, `more: is not a property of T`,
		`on: "maybe" is not true or false`, `path: is required`, `size: "1KB" is not a number of bytes such as 4096, 64KiB or 2GiB`, `url: "/relative" is not an absolute URL`, `wait: "5" is not a length of time such as 1h30m or 250ms`,
	}
	var texts []string
	for _, e := range got {
		texts = append(texts, e.String())
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Error(diff)
	}
	good := DataAddress{Properties: map[string]string{"https://ns/path": "p", "count": "-3", "size": "2GiB", "wait": "1m", "url": "https://x", "mode": "a", "on": ""}}
	if errs := s.Check(good); len(errs) != 0 {
		t.Error(errs)
	}
	s.Open = true
	if errs := s.Check(DataAddress{Properties: map[string]string{"path": "p", "more": "y"}}); len(errs) != 0 {
		t.Error(errs)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "17": 17, "1KiB": 1 << 10, "3 MiB": 3 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40,
		"": -1, "-1": -1, "x": -1, "1.5GiB": -1, "9999999999TiB": -1, "1kb": -1} {
		got, err := ParseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}

func TestDigesterGoesOnFromItsState(t *testing.T) {
	content := bytes.Repeat([]byte("towpath "), 1000)
	whole := NewDigester(Algorithms()...)
	whole.Write(content)
	half := NewDigester(Algorithms()...)
	half.Write(content[:3001])
	rest, err := half.State().Digester()
	if err != nil {
		t.Fatal(err)
	}
	rest.Write(content[3001:])
	if diff := cmp.Diff(whole.Sum(), rest.Sum()); diff != "" || rest.Size() != int64(len(content)) {
		t.Error(diff, rest.Size())
	}
	if err := whole.Sum().Compare(half.Sum()); AsError(err).Code != Corrupt {
		t.Errorf("different digests compare as %v", err)
	}
	if err := whole.Sum().Compare(Digests{}); err != nil {
		t.Errorf("nothing to compare: %v", err)
	}
	if _, err := (DigestState{States: map[Algorithm][]byte{SHA256: {1}}}).Digester(); err == nil {
		t.Error("a state that is none is accepted")
	}
}

func TestAsError(t *testing.T) {
	cause := errors.New("cause")
	e := Errorf(NotFound, "part %d: %w", 3, cause)
	wrapped := AsError(fmt.Errorf("read: %w", e))
	if wrapped.Code != NotFound || wrapped.Message != "read: part 3: cause" || !errors.Is(wrapped, cause) || wrapped.Retryable {
		t.Errorf("%+v", wrapped)
	}
	if e := AsError(context.Canceled); e.Code != Unavailable || !e.Retryable {
		t.Errorf("%+v", e)
	}
	if e := AsError(cause); e.Code != Internal || e.Retryable {
		t.Errorf("%+v", e)
	}
	if AsError(nil) != nil || InvalidFields(nil) != nil {
		t.Error("nil is an error")
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a/b", "../x", "a/../..", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		if strings.HasPrefix(name, "/") || name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name, "/../") || strings.HasSuffix(name, "/..") {
			t.Errorf("%q passes", name)
		}
	})
}

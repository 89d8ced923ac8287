package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
)

var sampleTokens = []token{
	{Nonce: strings.Repeat("0a", nonceSize)},
	{Nonce: strings.Repeat("0a", nonceSize), Tail: 100, TailCRC: 1, CRC: 1},
	{Nonce: strings.Repeat("0a", nonceSize), Upload: "id", Parts: 2, Bytes: 16 << 20, Tail: 1, Tags: []byte{1}, CRC: 1 << 31},
	{Nonce: strings.Repeat("0a", nonceSize), Bytes: 99, Done: true},
	{Nonce: strings.Repeat("0a", nonceSize), First: 5, Records: 7, Tail: 1000},
}

func TestDecodeToken(t *testing.T) {
	for _, want := range sampleTokens {
		raw, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeToken(raw, want.Bytes+want.Tail)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
		if _, err := decodeToken(raw, want.Bytes+want.Tail+1); err == nil {
			t.Errorf("%s is taken for another place", raw)
		}
	}
	nonce := `"nonce":"` + strings.Repeat("0a", nonceSize) + `"`
	for _, raw := range []string{
		``, `null`, `{}`, `[]`, `{"nonce":"../../x"}`, `{` + nonce + `,"crc":0,"more":1}`, `{` + nonce + `} {}`,
		`{` + nonce + `,"parts":1,"bytes":1,"upload":"x"}`, `{` + nonce + `,"parts":1,"bytes":9000000}`, `{` + nonce + `,"tail":-1}`,
		`{` + nonce + `,"parts":10001,"bytes":90000000000,"upload":"x"}`, `{` + nonce + `,"bytes":1}`, `{` + nonce + `,"done":true,"tail":1}`,
	} {
		if got, err := decodeToken([]byte(raw), -1); err == nil {
			t.Errorf("%s is taken for a token: %+v", raw, got)
		}
	}
}

func FuzzDecodeToken(f *testing.F) {
	for _, t := range sampleTokens {
		raw, _ := t.encode()
		f.Add(raw, t.Bytes+t.Tail)
	}
	f.Add([]byte("no token"), int64(-1))
	f.Fuzz(func(t *testing.T, raw []byte, offset int64) {
		got, err := decodeToken(raw, offset)
		if err != nil {
			return
		}
		if strings.ContainsAny(got.Nonce, "/.") || got.Tail < 0 || got.Bytes < 0 || got.Parts > maxParts {
			t.Errorf("%s: %+v", raw, got)
		}
		again, err := got.encode()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := decodeToken(again, offset); err != nil || cmp.Diff(got, same) != "" {
			t.Errorf("%s became %s, %v", raw, again, err)
		}
	})
}

func FuzzDecodeNote(f *testing.F) {
	f.Add([]byte(`{"key":"a/b","upload":"id"}`))
	f.Add([]byte(`{"key":""}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var content blocks
		defer content.release()
		content.Write(raw)
		if n, err := decodeNote(&content); err == nil && n.Key == "" {
			t.Errorf("%q has no key", raw)
		}
	})
}

// Parts are at least as large as they have to be, and enough for the largest object.
func TestPlanned(t *testing.T) {
	const least = 8 << 20
	for _, size := range []int64{0, 1, least, 10_000 * least, 10_000*least + 1, 5 << 40} {
		var m multipart
		for m.bytes < size {
			n := m.planned(size, least)
			if n < minPartSize || n > maxPartSize {
				t.Fatalf("part %d of %d bytes has %d", len(m.parts)+1, size, n)
			}
			m = grown(m, n)
		}
		if len(m.parts) > maxParts {
			t.Errorf("%d bytes take %d parts", size, len(m.parts))
		}
	}
	var m multipart
	for len(m.parts) < maxParts {
		m = grown(m, m.planned(-1, least))
	}
	if m.bytes < 5<<40 {
		t.Errorf("an object of unknown size has at most %d bytes", m.bytes)
	}
}

func grown(m multipart, n int64) multipart {
	m.parts, m.bytes = append(m.parts, types.CompletedPart{}), m.bytes+n
	return m
}

func TestBlocks(t *testing.T) {
	var b blocks
	defer b.release()
	want := bytes.Repeat([]byte("0123456789abc"), 60_000)
	b.Write(want[:5])
	b.Write(want[5:300_000])
	if err := b.fill(bytes.NewReader(want[300_000:]), int64(len(want)-300_000)); err != nil {
		t.Fatal(err)
	}
	if err := b.fill(strings.NewReader("x"), 2); err == nil {
		t.Error("two bytes were read of one")
	}
	want = append(want, 'x')
	r := b.reader()
	for range 2 {
		var got bytes.Buffer
		if _, err := got.ReadFrom(r); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("%d bytes, %v", got.Len(), err)
		}
		if _, err := r.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Seek(-7, 2); err != nil {
		t.Fatal(err)
	}
	var end bytes.Buffer
	if _, err := r.WriteTo(&end); err != nil || end.String() != string(want[len(want)-7:]) {
		t.Errorf("%q, %v", end.String(), err)
	}
	if _, err := r.Seek(1, 2); err == nil {
		t.Error("a place behind the end was found")
	}
}

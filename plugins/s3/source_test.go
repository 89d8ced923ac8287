package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

func TestSourceSuite(t *testing.T) {
	b := newBucket(t)
	large := sdktest.Pattern(1, 4<<20+5)
	contents := []sdktest.Content{
		{Name: "a-b.csv", Bytes: []byte("-")},
		{Name: "a.csv", Bytes: []byte{}},
		{Name: "a/b.csv", Bytes: large},
		{Name: "a/b/c d+e.csv", Bytes: sdktest.Pattern(2, 70_000)},
		{Name: "a0 %41?#&='\"<>*.csv", Bytes: []byte("0")},
		{Name: "Übung/🙂~x.csv", Bytes: []byte("ü")},
	}
	for _, c := range contents {
		b.put("data/"+c.Name, c.Bytes)
	}
	b.put("elsewhere.csv", []byte("not of these addresses"))
	b.put("data/"+workFolder+"/flow/note", []byte("the plugin's own"))
	with := func(change func(a sdk.DataAddress)) sdk.DataAddress {
		a := b.address("objectPrefix", "data/")
		change(a)
		return a
	}
	bad := []sdktest.BadAddress{
		{Name: "no object", Address: b.address("objectName", "nowhere"), Code: sdk.NotFound},
		{Name: "no prefix", Address: b.address("objectPrefix", "nowhere/"), Code: sdk.NotFound},
		{Name: "no bucket", Address: with(func(a sdk.DataAddress) { a.Properties["bucketName"] = "nowhere" }), Code: sdk.NotFound},
		{Name: "no name", Address: b.address(), Code: sdk.Invalid},
		{Name: "two names", Address: b.address("objectName", "x", "objectPrefix", "y"), Code: sdk.Invalid},
		{Name: "wrong key", Address: with(func(a sdk.DataAddress) { a.Properties["accessKeyId"] = "somebody" }), Code: sdk.Denied},
		{Name: "wrong secret", Address: with(func(a sdk.DataAddress) { a.Properties["secretAccessKey"] = "guess" }), Code: sdk.Denied},
		{Name: "half of the credentials", Address: with(func(a sdk.DataAddress) { delete(a.Properties, "secretAccessKey") }), Code: sdk.Invalid},
	}
	for name, c := range map[string]sdktest.SourceCase{
		"prefix": {Address: b.address("objectPrefix", "data/"), Parts: contents, Bad: bad},
		"object": {Address: b.address("objectName", "data/a/b.csv"), Parts: []sdktest.Content{{Name: "b.csv", Bytes: large}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.New = func(t *testing.T) sdk.DataSource {
				return sdk.NewDataSource(newTestPlugin(t, map[string]any{"range_size": "512KiB"}).Sources[0])
			}
			sdktest.TestSource(t, c)
		})
	}
}

// The ways to say which objects are meant.
func TestSourceNames(t *testing.T) {
	b := newBucket(t)
	for _, key := range []string{"data/a.csv", "data/a/b.csv", "data/a/b/c.csv", "data/ab.csv", "data/a/", "top.csv"} {
		b.put(key, nil)
	}
	source := sdk.NewDataSource(newTestPlugin(t, nil).Sources[0])
	for _, c := range []struct{ properties, want []string }{
		{[]string{"objectPrefix", "data/"}, []string{"a.csv", "a/b.csv", "a/b/c.csv", "ab.csv"}},
		{[]string{"folderName", "data"}, []string{"a.csv", "a/b.csv", "a/b/c.csv", "ab.csv"}},
		{[]string{"folderName", "/"}, []string{"data/a.csv", "data/a/b.csv", "data/a/b/c.csv", "data/ab.csv", "top.csv"}},
		{[]string{"keyPrefix", "data/a/"}, []string{"b.csv", "b/c.csv"}},
		{[]string{"folderName", "data/", "objectPrefix", "ab"}, []string{"ab.csv"}},
		{[]string{"objectName", "a/b.csv", "folderName", "data"}, []string{"b.csv"}},
		{[]string{"keyName", "data/a.csv"}, []string{"a.csv"}},
	} {
		_, names, err := readAll(t.Context(), source, sdk.ReadOpen{Address: b.address(c.properties...)})
		if diff := cmp.Diff(c.want, names); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", c.properties, err, diff)
		}
	}
}

// A list has a thousand keys a page.
func TestSourceOfManyObjects(t *testing.T) {
	const n = 2103
	b := newBucket(t)
	work := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range work {
				b.put(fmt.Sprintf("many/%05d", i), fmt.Appendf(nil, "%d", i))
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wg.Wait()
	source := sdk.NewDataSource(newTestPlugin(t, nil).Sources[0])
	_, names, err := readAll(t.Context(), source, sdk.ReadOpen{Address: b.address("objectPrefix", "many/"), List: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != n || !slices.IsSorted(names) || names[0] != "00000" || names[n-1] != "02102" {
		t.Errorf("%d names, sorted %t", len(names), slices.IsSorted(names))
	}
	open := sdk.ReadOpen{Address: b.address("objectPrefix", "many/"), Select: &sdk.Selection{Name: "02050", Length: -1}}
	content, _, err := readAll(t.Context(), source, open)
	if err != nil || string(content["02050"]) != "2050" {
		t.Errorf("the part on the third page: %q %v", content, err)
	}
}

// editProxy lets a test interfere with the requests for content.
func editProxy(t *testing.T, edit func(n int64, w http.ResponseWriter, req *http.Request) bool) string {
	var gets atomic.Int64
	return newProxy(t, func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || strings.Contains(req.URL.RawQuery, "list-type") {
			return false
		}
		return edit(gets.Add(1), w, req)
	})
}

// An object that is replaced while it is read is never mixed with what it was.
func TestSourceNoticesChange(t *testing.T) {
	b := newBucket(t)
	old, young := sdktest.Pattern(1, 6<<20), sdktest.Pattern(2, 6<<20)
	for _, where := range []string{"objectName", "objectPrefix"} {
		t.Run(where, func(t *testing.T) {
			b.put("changes", old)
			endpoint := editProxy(t, func(n int64, _ http.ResponseWriter, req *http.Request) bool {
				if n == 4 {
					b.put("changes", young)
				}
				return false
			})
			source := sdk.NewDataSource(newTestPlugin(t, map[string]any{"range_size": "1MiB"}).Sources[0])
			a := b.at(endpoint, where, "changes")
			content, _, err := readAll(t.Context(), source, sdk.ReadOpen{Address: a})
			if e := sdk.AsError(err); e == nil || e.Code != sdk.Corrupt || !e.Retryable {
				t.Fatalf("the error is %v, not that it has changed", err)
			}
			if got := content["changes"]; !bytes.Equal(got, old[:len(got)]) {
				t.Errorf("the first %d bytes are not those of the object that was announced", len(got))
			}
			content, _, err = readAll(t.Context(), source, sdk.ReadOpen{Address: a})
			if err != nil || !bytes.Equal(content["changes"], young) {
				t.Errorf("read again: %d bytes, %v", len(content["changes"]), err)
			}
		})
	}
}

// A store that knows no If-Match is found out.
func TestSourceNoticesChangeWithoutConditions(t *testing.T) {
	b := newBucket(t)
	b.put("changes", sdktest.Pattern(1, 4<<20))
	endpoint := editProxy(t, func(n int64, _ http.ResponseWriter, req *http.Request) bool {
		if n == 2 {
			b.put("changes", sdktest.Pattern(2, 4<<20))
		}
		req.Header.Del("If-Match") // which breaks the signature of those that sign it
		return false
	})
	source := sdk.NewDataSource(newTestPlugin(t, map[string]any{"range_size": "1MiB"}).Sources[0])
	_, _, err := readAll(t.Context(), source, sdk.ReadOpen{Address: b.at(endpoint, "objectName", "changes")})
	if err == nil {
		t.Error("a changed object was read without an error")
	}
}

// What breaks is taken up at the byte where it broke.
func TestSourceTakesUpBrokenBodies(t *testing.T) {
	b := newBucket(t)
	content := sdktest.Pattern(3, 5<<20+7)
	b.put("broken", content)
	var asked atomic.Int64
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}
	endpoint := editProxy(t, func(n int64, w http.ResponseWriter, req *http.Request) bool {
		asked.Add(1)
		if n%2 == 0 {
			return false
		}
		forward(transport, &cutWriter{ResponseWriter: w, left: 100_000}, req)
		return true
	})
	source := sdk.NewDataSource(newTestPlugin(t, map[string]any{"range_size": "1MiB"}).Sources[0])
	got, _, err := readAll(t.Context(), source, sdk.ReadOpen{Address: b.at(endpoint, "objectName", "broken"), Digests: sdk.Algorithms()})
	if err != nil || !bytes.Equal(got["broken"], content) {
		t.Fatalf("%d bytes, %v", len(got["broken"]), err)
	}
	if asked.Load() < 8 {
		t.Errorf("%d requests: nothing was cut", asked.Load())
	}
}

// cutWriter hangs up after so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	if w.left -= n; w.left == 0 {
		http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// A checksum that the store knows is compared with what came.
func TestSourceChecksChecksum(t *testing.T) {
	b := newBucket(t)
	for name, size := range map[string]int{"small": 1000, "large": 3 << 20} {
		b.put("sums/"+name, sdktest.Pattern(4, size))
		endpoint := editProxy(t, func(_ int64, w http.ResponseWriter, req *http.Request) bool {
			forward(&http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}, &flipWriter{ResponseWriter: w}, req)
			return true
		})
		source := sdk.NewDataSource(newTestPlugin(t, map[string]any{"range_size": "1MiB"}).Sources[0])
		for _, a := range []sdk.DataAddress{b.at(endpoint, "objectName", "sums/"+name), b.at(endpoint, "objectPrefix", "sums/"+name)} {
			_, _, err := readAll(t.Context(), source, sdk.ReadOpen{Address: a})
			if e := sdk.AsError(err); e == nil || e.Code != sdk.Corrupt {
				t.Errorf("%s: the error is %v, not that the checksum is wrong", name, err)
			}
		}
	}
}

// flipWriter changes one bit of a body.
type flipWriter struct {
	http.ResponseWriter
	done bool
}

func (w *flipWriter) Write(p []byte) (int, error) {
	if !w.done {
		p, w.done = bytes.Clone(p), true
		p[0] ^= 1
	}
	return w.ResponseWriter.Write(p)
}

// A flow that stalls does not hold memory that others need to go on.
func TestSourceWithoutMemory(t *testing.T) {
	b := newBucket(t)
	content := sdktest.Pattern(5, 9<<20)
	b.put("large", content)
	source := sdk.NewDataSource(newTestPlugin(t, map[string]any{"range_size": "1MiB", "memory": "3MiB"}).Sources[0])
	var stalled []sdk.ReadStream
	for range 3 {
		s, err := source.Read(context.Background(), sdk.ReadOpen{Address: b.address("objectName", "large")})
		if err != nil {
			t.Fatal(err)
		}
		for range 12 {
			f, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			sdk.Release(f)
		}
		stalled = append(stalled, s)
	}
	got, _, err := readAll(t.Context(), source, sdk.ReadOpen{Address: b.address("objectName", "large")})
	if err != nil || !bytes.Equal(got["large"], content) {
		t.Errorf("%d bytes, %v", len(got["large"]), err)
	}
	for _, s := range stalled {
		s.Close()
	}
}

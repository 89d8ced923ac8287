package publicapi

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestListing(t *testing.T) {
	for _, id := range []string{"f", "urn:uuid:1", "a/b c", "ü?#%"} {
		w := newWorld(t, nil)
		w.memory.Put("a/b 1.bin", []byte("first"))
		w.memory.Put("c?d#e%", []byte("second"))
		w.memory.PutRecords("r", []sdk.Record{{Value: []byte("x")}})
		a := w.pull(id)
		res := w.get(a, nil)
		res.wantStatus(t, http.StatusOK)
		if got := res.Header.Get("Content-Type"); got != partsType {
			t.Errorf("Content-Type %q", got)
		}
		var list struct{ Parts []listedPart }
		if err := json.Unmarshal(res.body, &list); err != nil {
			t.Fatalf("%s: %v", res.body, err)
		}
		names := map[string]string{}
		for _, p := range list.Parts {
			href, err := res.Request.URL.Parse(p.Href)
			if err != nil {
				t.Fatalf("%q: %v", p.Href, err)
			}
			part := w.do(a, href.String(), request{})
			part.wantStatus(t, http.StatusOK)
			names[p.Name] = string(part.body)
			if p.Size != nil && int(*p.Size) != len(part.body) || (p.Size == nil) != (p.MediaType == "application/x-ndjson") {
				t.Errorf("%q: size %v, %d bytes", p.Name, p.Size, len(part.body))
			}
			if part.Header.Get("Etag") != p.ETag {
				t.Errorf("%q: ETag %s, listed %s", p.Name, part.Header.Get("Etag"), p.ETag)
			}
		}
		want := map[string]string{"a/b 1.bin": "first", "c?d#e%": "second", "r": `{"value":"eA=="}` + "\n"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("id %q: %s", id, diff)
		}
	}
}

func TestListingOfNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.get(w.pull("f"), nil).wantBody(t, http.StatusOK, `{"parts":[]}`+"\n")
}

func TestMultipart(t *testing.T) {
	w := newWorld(t, nil)
	want := map[string]string{"a": "", "b/ü": string(noise(1<<20, 2)), "c": "third"}
	for name, content := range want {
		w.memory.Put(name, []byte(content))
	}
	res := w.get(w.pull("f"), h("Accept", "text/html, multipart/mixed;q=0.5"))
	res.wantStatus(t, http.StatusOK)
	_, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := multipart.NewReader(bytes.NewReader(res.body), params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		name, err := dispositionName(p.Header.Get("Content-Disposition"))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = string(body)
		if n, err := partLength(http.Header(p.Header)); err != nil || int(n) != len(body) {
			t.Errorf("%q: Content-Length %d, %v", name, n, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%.300s", diff)
	}
	if n := len(w.flows.recorded(key("f"))); n != 3 {
		t.Errorf("%d parts recorded", n)
	}
	// A wildcard, or a refusal, is no wish.
	for _, accept := range []string{"*/*", "multipart/*", "multipart/mixed;q=0", "multipart/mixed;q=0.0, */*"} {
		if got := w.get(w.pull("f"), h("Accept", accept)).Header.Get("Content-Type"); got != partsType {
			t.Errorf("Accept %q: %s", accept, got)
		}
	}
}

package publicapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/store/storetest"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// resuming lets a world go on with uploads of any size.
func resuming(_ *world, o *Options) {
	o.Resume = ResumeOptions{Uploads: &storetest.Uploads{}, Sink: func(string) bool { return true }, MinSize: 1, Interval: time.Millisecond}
}

// interims are the answers before an answer.
type interims struct{ seen []http.Header }

func (i *interims) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == httpfield.StatusResumptionSupported {
			i.seen = append(i.seen, http.Header(h).Clone())
		}
		return nil
	}}
}

// ask sends a request of the draft, and returns the answer with those before it.
func (w *world) ask(a sdk.DataAddress, method, url string, body io.Reader, fields ...string) (response, *interims, error) {
	w.t.Helper()
	seen := &interims{}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(w.t.(*testing.T).Context(), seen.trace()), method, url, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+a.Get("authorization"))
	r.Header.Set(httpfield.UploadVersion, "8")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", httpfield.PartialUpload)
	}
	for name, value := range h(fields...) {
		r.Header.Set(name, value)
		if value == "" {
			r.Header.Del(name)
		}
	}
	res, err := w.client.Do(r)
	if err != nil {
		return response{}, seen, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return response{res, text, err}, seen, nil
}

func (w *world) mustAsk(a sdk.DataAddress, method, url string, body io.Reader, fields ...string) response {
	w.t.Helper()
	res, _, err := w.ask(a, method, url, body, fields...)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// here returns the URL at the world's server that a Location leads to.
func (w *world) here(location string) string {
	w.t.Helper()
	u, err := url.Parse(location)
	if err != nil || u.Query().Get(uploadParameter) == "" {
		w.t.Fatalf("Location %q of an upload: %v", location, err)
	}
	return w.endpoint.base + u.RequestURI()
}

// begin creates an empty upload of a part and returns its URL.
func (w *world) begin(a sdk.DataAddress, name string, fields ...string) string {
	w.t.Helper()
	res := w.mustAsk(a, http.MethodPut, a.Endpoint+"/"+name, nil, append([]string{"Upload-Complete", "?0"}, fields...)...)
	res.wantStatus(w.t.(*testing.T), http.StatusCreated)
	res.wantProgress(w.t, 0, false)
	return w.here(res.Header.Get("Location"))
}

// wantProgress checks what an answer says of an upload.
func (r response) wantProgress(t testing.TB, offset int64, complete bool) {
	t.Helper()
	got, ok := httpfield.Count(r.Header, httpfield.UploadOffset)
	done, said := httpfield.Complete(r.Header)
	if !ok || got != offset || !said || done != complete {
		t.Errorf("the upload is at %q, complete %q; want %d, %t", r.Header.Get("Upload-Offset"), r.Header.Get("Upload-Complete"), offset, complete)
	}
}

// offset asks an upload for its place until the request that was cut before has left it.
func (w *world) offset(a sdk.DataAddress, upload string) response {
	w.t.Helper()
	res := w.mustAsk(a, http.MethodHead, upload, nil)
	res.wantStatus(w.t.(*testing.T), http.StatusNoContent)
	return res
}

// uploading sends a body in a goroutine, and returns when the server has all of it, and a function that cuts the request.
func (w *world) uploading(a sdk.DataAddress, method, url, content string, fields ...string) (seen *interims, cut func()) {
	w.t.Helper()
	r, out := io.Pipe()
	done := make(chan *interims, 1)
	go func() {
		_, seen, _ := w.ask(a, method, url, r, fields...)
		done <- seen
	}()
	before := w.metric("towpath_public_bytes_total", map[string]string{"direction": "in"})
	if _, err := io.WriteString(out, content); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for w.metric("towpath_public_bytes_total", map[string]string{"direction": "in"}) < before+float64(len(content)) {
		if time.Now().After(deadline) {
			w.t.Fatal("the server did not get the content")
		}
		time.Sleep(time.Millisecond)
	}
	seen = &interims{}
	return seen, func() {
		out.CloseWithError(errors.New("cut"))
		*seen = *<-done
	}
}

// An upload that is cut goes on where it was, by the URL that an interim answer has told.
func TestResumeUpload(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(resuming)
		w.t = t
		a := w.push("f")
		content := string(noise(3<<20+1, 1))
		half := 2<<20 - 5
		seen, cut := w.uploading(a, http.MethodPut, a.Endpoint+"/a/b.bin", content[:half], "Upload-Complete", "?1",
			"Upload-Length", fmt.Sprint(len(content)), "Content-Type", "text/plain")
		cut()
		if len(seen.seen) == 0 || !httpfield.SpeaksDraft(seen.seen[0]) {
			t.Fatalf("interim answers %v", seen.seen)
		}
		limits, ok := httpfield.ParseLimits(seen.seen[0])
		if !ok || limits.MinSize != 1 || limits.MaxAge < 6*24*time.Hour {
			t.Errorf("limits %+v", limits)
		}
		upload := w.here(seen.seen[0].Get("Location"))
		w.wantContent(map[string]string{})
		res := w.offset(a, upload)
		res.wantProgress(t, int64(half), false)
		if got := res.Header.Get("Upload-Length"); got != fmt.Sprint(len(content)) {
			t.Errorf("Upload-Length %s", got)
		}
		res = w.mustAsk(a, http.MethodPatch, upload, strings.NewReader(content[half:]), "Upload-Complete", "?1", "Upload-Offset", fmt.Sprint(half))
		res.wantPart(t, http.StatusCreated, "a/b.bin", content)
		if got := res.Header.Get("Upload-Complete"); got != "?1" {
			t.Errorf("Upload-Complete %s", got)
		}
		w.wantContent(map[string]string{"a/b.bin": content})
		// The answer may be lost, and is given again.
		w.offset(a, upload).wantProgress(t, int64(len(content)), true)
		res = w.mustAsk(a, http.MethodPatch, upload, nil, "Upload-Complete", "?1", "Upload-Offset", fmt.Sprint(len(content)))
		res.wantPart(t, http.StatusOK, "a/b.bin", content)
		if got := w.flows.recorded(key("f")); len(got) != 1 || got[0].Index != 0 {
			t.Errorf("recorded %+v", got)
		}
		info, err := w.memory.Info("a/b.bin")
		if err != nil || info.MediaType != "text/plain" {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

// A part of unknown size comes in pieces, and its digest behind the last one.
func TestUploadInPieces(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		w := start(resuming)
		w.t = t
		a := w.push("f")
		upload := w.begin(a, "x", "Want-Repr-Digest", "sha-256=10")
		content := string(noise(300_000, 1))
		for at := 0; at < len(content); at += 100_000 {
			res := w.mustAsk(a, http.MethodPatch, upload, strings.NewReader(content[at:at+100_000]), "Upload-Complete", "?0",
				"Upload-Offset", fmt.Sprint(at), "Content-Digest", httpfield.FormatDigests(digestsOf(content[at:at+100_000], sdk.CRC32C)))
			res.wantStatus(t, http.StatusNoContent)
			res.wantProgress(t, int64(at+100_000), false)
		}
		w.wantContent(map[string]string{})
		res := w.mustAsk(a, http.MethodPatch, upload, nil, "Upload-Complete", "?1", "Upload-Offset", "300000",
			"Repr-Digest", httpfield.FormatDigests(digestsOf(content, sdk.SHA256)))
		res.wantPart(t, http.StatusCreated, "x", content)
		if got, want := res.Header.Get("Repr-Digest"), httpfield.FormatDigests(digestsOf(content, sdk.SHA256)); got != want {
			t.Errorf("Repr-Digest %s, want %s", got, want)
		}
		w.wantContent(map[string]string{"x": content})
	})
}

func TestUploadRules(t *testing.T) {
	const content = "0123456789"
	digest := func(of string) string { return httpfield.FormatDigests(digestsOf(of, sdk.CRC32C)) }
	for _, tc := range []struct {
		name   string
		begin  []string
		method string
		body   io.Reader
		fields []string
		status int
		typ    string // of the problem
		offset int64  // after it; less than 0: there is no upload any more
	}{
		{"offset before", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "4", "Upload-Complete", "?1"}, 409, httpfield.MismatchingOffset, 5},
		{"offset behind", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "6", "Upload-Complete", "?1"}, 409, httpfield.MismatchingOffset, 5},
		{"no offset", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Complete", "?1"}, 400, "", 5},
		{"negative offset", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "-5", "Upload-Complete", "?1"}, 400, "", 5},
		{"no completeness", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "5"}, 400, "", 5},
		{"broken completeness", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "5", "Upload-Complete", "1"}, 400, "", 5},
		{"media type", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "5", "Upload-Complete", "?1", "Content-Type", "text/plain"}, 415, "", 5},
		{"coding", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "5", "Upload-Complete", "?1", "Content-Encoding", "gzip"}, 415, "", 5},
		{"shorter than announced", []string{"Upload-Length", "10"}, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "5", "Upload-Complete", "?1"}, 400, httpfield.InconsistentLength, 5},
		{"two lengths", nil, "PATCH", strings.NewReader("x"), []string{"Upload-Offset", "5", "Upload-Complete", "?1", "Upload-Length", "7"}, 400, httpfield.InconsistentLength, 5},
		{"longer in the end", []string{"Upload-Length", "10"}, "PATCH", io.MultiReader(strings.NewReader("56789x")), []string{"Upload-Offset", "5", "Upload-Complete", "?1"}, 400, httpfield.InconsistentLength, -1},
		{"shorter in the end", []string{"Upload-Length", "10"}, "PATCH", io.MultiReader(strings.NewReader("567")), []string{"Upload-Offset", "5", "Upload-Complete", "?1"}, 400, httpfield.InconsistentLength, -1},
		{"digest of the piece", nil, "PATCH", strings.NewReader("56789"), []string{"Upload-Offset", "5", "Upload-Complete", "?0", "Content-Digest", digest("5678x")}, 400, "urn:towpath:problem:digest-mismatch", 5},
		{"digest of the last piece", nil, "PATCH", strings.NewReader("56789"), []string{"Upload-Offset", "5", "Upload-Complete", "?1", "Content-Digest", digest(content)}, 400, "urn:towpath:problem:digest-mismatch", 5},
		{"digest of the whole", []string{"Repr-Digest", digest("012345678x")}, "PATCH", strings.NewReader("56789"), []string{"Upload-Offset", "5", "Upload-Complete", "?1"}, 400, "urn:towpath:problem:digest-mismatch", -1},
		{"late digest of the whole", nil, "PATCH", strings.NewReader("56789"), []string{"Upload-Offset", "5", "Upload-Complete", "?1", "Repr-Digest", digest("56789")}, 400, "urn:towpath:problem:digest-mismatch", -1},
		{"two digests of the whole", []string{"Repr-Digest", digest(content)}, "PATCH", strings.NewReader("56789"), []string{"Upload-Offset", "5", "Upload-Complete", "?1", "Repr-Digest", digest("x")}, 400, "", 5},
		{"broken digest", nil, "PATCH", strings.NewReader("56789"), []string{"Upload-Offset", "5", "Upload-Complete", "?1", "Repr-Digest", "crc32c=1"}, 400, "", 5},
		{"too large", nil, "PATCH", strings.NewReader(strings.Repeat("x", 100)), []string{"Upload-Offset", "5", "Upload-Complete", "?1"}, 413, "", 5},
		{"cancelled", nil, "DELETE", nil, nil, 204, "", -1},
		{"asked with GET", nil, "GET", nil, nil, 204, "", 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, func(w *world, o *Options) {
				resuming(w, o)
				o.Limits.MaxPartSize = 50
			})
			a := w.push("f")
			upload := w.begin(a, "x", tc.begin...)
			w.mustAsk(a, http.MethodPatch, upload, strings.NewReader(content[:5]), "Upload-Complete", "?0", "Upload-Offset", "0").
				wantProgress(t, 5, false)
			res := w.mustAsk(a, tc.method, upload, tc.body, tc.fields...)
			res.wantStatus(t, tc.status)
			var p problem
			if tc.status >= 400 {
				if err := json.Unmarshal(res.body, &p); err != nil || tc.typ != "" && p.Type != tc.typ {
					t.Errorf("problem %s, want type %s", res.body, tc.typ)
				}
			}
			if tc.typ == httpfield.MismatchingOffset {
				res.wantProgress(t, 5, false)
				if p.Expected == nil || *p.Expected != 5 || p.Provided == nil {
					t.Errorf("problem %s", res.body)
				}
			}
			w.wantContent(map[string]string{})
			if tc.offset < 0 {
				w.mustAsk(a, http.MethodHead, upload, nil).wantStatus(t, http.StatusNotFound)
				w.put(a, "x", content, nil).wantPart(t, http.StatusCreated, "x", content)
				return
			}
			w.offset(a, upload).wantProgress(t, tc.offset, false)
			w.mustAsk(a, http.MethodPatch, upload, strings.NewReader(content[5:]), "Upload-Complete", "?1", "Upload-Offset", "5").
				wantPart(t, http.StatusCreated, "x", content)
		})
	}
}

// A request that does not know the draft, or another version of it, is what it was before. One that cannot be that is refused.
func TestUploadsWithoutResumption(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
		fields []string
		status int
	}{
		{"no version", nil, []string{"Upload-Draft-Interop-Version", "", "Upload-Complete", "?1"}, 201},
		{"another version", nil, []string{"Upload-Draft-Interop-Version", "7", "Upload-Complete", "?1"}, 201},
		{"no draft", nil, nil, 201},
		{"field to be ignored", nil, []string{"Upload-Complete", "yes"}, 201},
		{"small", func(o *Options) { o.Resume.MinSize = 100 }, []string{"Upload-Complete", "?1"}, 201},
		{"not offered", func(o *Options) { o.Resume = ResumeOptions{} }, []string{"Upload-Complete", "?1"}, 201},
		{"sink cannot", func(o *Options) { o.Resume.Sink = func(string) bool { return false } }, []string{"Upload-Complete", "?1"}, 201},
		{"piece, no version", nil, []string{"Upload-Draft-Interop-Version", "", "Upload-Complete", "?0"}, 400},
		{"piece, another version", nil, []string{"Upload-Draft-Interop-Version", "9", "Upload-Complete", "?0"}, 400},
		{"piece, not offered", func(o *Options) { o.Resume = ResumeOptions{} }, []string{"Upload-Complete", "?0"}, 400},
		{"piece, sink cannot", func(o *Options) { o.Resume.Sink = func(string) bool { return false } }, []string{"Upload-Complete", "?0"}, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, func(w *world, o *Options) {
				resuming(w, o)
				if tc.change != nil {
					tc.change(o)
				}
			})
			a := w.push("f")
			res, seen, err := w.ask(a, http.MethodPut, a.Endpoint+"/x", strings.NewReader("content"), tc.fields...)
			if err != nil {
				t.Fatal(err)
			}
			res.wantStatus(t, tc.status)
			if len(seen.seen) > 0 {
				t.Errorf("interim answers %v", seen.seen)
			}
			if tc.status == http.StatusCreated {
				res.wantPart(t, http.StatusCreated, "x", "content")
			}
		})
	}
}

// A request that nobody believes in any more does not keep its client from going on: what comes next ends it.
func TestUploadIsTakenOver(t *testing.T) {
	protocols(t, func(t *testing.T, start func(func(*world, *Options)) *world) {
		for _, next := range []string{"HEAD", "PATCH", "DELETE", "PUT"} {
			t.Run(next, func(t *testing.T) {
				w := start(func(w *world, o *Options) {
					resuming(w, o)
					o.Limits.MaxConcurrentPerToken = 2
				})
				w.t = t
				a := w.push("f")
				upload := w.begin(a, "x")
				_, cut := w.uploading(a, http.MethodPatch, upload, "hello", "Upload-Complete", "?1", "Upload-Offset", "0")
				defer cut()
				switch next {
				case "HEAD":
					w.offset(a, upload).wantProgress(t, 5, false)
				case "PATCH":
					res := w.mustAsk(a, http.MethodPatch, upload, strings.NewReader(", world"), "Upload-Complete", "?1", "Upload-Offset", "5")
					res.wantPart(t, http.StatusCreated, "x", "hello, world")
				case "DELETE":
					w.mustAsk(a, http.MethodDelete, upload, nil).wantStatus(t, http.StatusNoContent)
					w.mustAsk(a, http.MethodHead, upload, nil).wantStatus(t, http.StatusNotFound)
				case "PUT":
					res := w.mustAsk(a, http.MethodPut, a.Endpoint+"/x", strings.NewReader("another"), "Upload-Complete", "?1")
					res.wantPart(t, http.StatusCreated, "x", "another")
					w.mustAsk(a, http.MethodPut, a.Endpoint+"/x", strings.NewReader("another"), "Upload-Complete", "?1").
						wantPart(t, http.StatusOK, "x", "another")
				}
			})
		}
	})
}

// What is durable survives the process: another one, with the same store and the same sink, goes on from there.
func TestUploadSurvives(t *testing.T) {
	uploads := &storetest.Uploads{}
	memory := &sdktest.Memory{}
	content := string(noise(1<<20, 2))
	// Another world stands for another process.
	next := func() *world {
		return newWorld(t, func(w *world, o *Options) {
			resuming(w, o)
			w.memory, o.Resume.Uploads = memory, uploads
		})
	}
	w := next()
	a := w.push("f")
	path := strings.TrimPrefix(w.begin(a, "x", "Upload-Length", fmt.Sprint(len(content))), w.endpoint.base)
	for at := 0; at < len(content); at += 1 << 18 {
		complete := map[bool]string{true: "?1", false: "?0"}[at+1<<18 == len(content)]
		res := w.mustAsk(a, http.MethodPatch, w.endpoint.base+path, strings.NewReader(content[at:at+1<<18]), "Upload-Complete", complete,
			"Upload-Offset", fmt.Sprint(at), "Repr-Digest", httpfield.FormatDigests(digestsOf(content, sdk.CRC32C)))
		if complete == "?1" {
			res.wantPart(t, http.StatusCreated, "x", content)
		} else {
			res.wantStatus(t, http.StatusNoContent)
		}
		w = next()
		a = w.push("f")
	}
	if got, err := memory.Content("x"); err != nil || string(got) != content {
		t.Errorf("the sink has %d bytes: %v", len(got), err)
	}
}

// An upload ends with its flow, with its time, with another one of the same name, and when the sink has lost it.
func TestUploadsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(*world, sdk.DataAddress)
		method string
		status int
	}{
		"flow suspended":  {func(w *world, _ sdk.DataAddress) { w.flows.stop(key("f"), flow.Suspended) }, http.MethodHead, 403},
		"flow terminated": {func(w *world, _ sdk.DataAddress) { w.flows.stop(key("f"), flow.Terminated) }, http.MethodHead, 403},
		"sent whole":      {func(w *world, a sdk.DataAddress) { w.put(a, "x", "whole", nil).wantStatus(w.t.(*testing.T), 201) }, http.MethodHead, 404},
		"begun anew":      {func(w *world, a sdk.DataAddress) { w.begin(a, "x") }, http.MethodHead, 404},
		"time is up":      {func(*world, sdk.DataAddress) { time.Sleep(1100 * time.Millisecond) }, http.MethodHead, 404},
		"lost by the sink": {func(w *world, a sdk.DataAddress) {
			if err := w.memory.Deprovision(w.t.(*testing.T).Context(), sdk.FlowContext{ParticipantContext: "default", ID: "f"}, w.memory.Address("")); err != nil {
				w.t.Fatal(err)
			}
		}, http.MethodPatch, 410},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(w *world, o *Options) {
				resuming(w, o)
				if name == "time is up" {
					o.Resume.Lifetime = time.Second
				}
			})
			a := w.push("f")
			upload := w.begin(a, "x")
			w.mustAsk(a, http.MethodPatch, upload, strings.NewReader("hello"), "Upload-Complete", "?0", "Upload-Offset", "0").wantProgress(t, 5, false)
			tc.end(w, a)
			res := w.mustAsk(a, tc.method, upload, nil, "Upload-Complete", "?1", "Upload-Offset", "5")
			res.wantStatus(t, tc.status)
			if tc.method == http.MethodPatch {
				w.mustAsk(a, http.MethodHead, upload, nil).wantStatus(t, http.StatusNotFound)
			}
		})
	}
}

func TestUploadIsForItsToken(t *testing.T) {
	w := newWorld(t, resuming)
	a, other := w.push("f"), w.push("g")
	upload := w.begin(a, "x")
	w.mustAsk(other, http.MethodHead, upload, nil).wantStatus(t, http.StatusForbidden)
	w.mustAsk(sdk.DataAddress{}, http.MethodHead, upload, nil).wantStatus(t, http.StatusUnauthorized)
	w.mustAsk(a, http.MethodHead, upload+"x", nil).wantStatus(t, http.StatusNotFound)
	w.mustAsk(a, http.MethodHead, strings.Replace(upload, "/x?", "/y?", 1), nil).wantStatus(t, http.StatusNotFound)
	w.mustAsk(a, http.MethodHead, a.Endpoint+"/x", nil).wantStatus(t, http.StatusNotFound)
}

func TestUploadOptions(t *testing.T) {
	for name, want := range map[string]bool{"offered": true, "not offered": false} {
		w := newWorld(t, func(w *world, o *Options) {
			if want {
				resuming(w, o)
			}
		})
		a := w.push("f")
		for _, url := range []string{a.Endpoint, a.Endpoint + "/x"} {
			res := w.do(a, url, request{method: http.MethodOptions})
			res.wantStatus(t, http.StatusNoContent)
			_, ok := httpfield.ParseLimits(res.Header)
			digests := httpfield.Wanted(res.Header, httpfield.WantReprDigest)
			if ok != want || !strings.Contains(res.Header.Get("Allow"), "POST") || len(digests) != 2 {
				t.Errorf("%s: %v", name, res.Header)
			}
		}
	}
}

// A manifest that closes the flow leaves no way in.
func TestUploadToSealedFlow(t *testing.T) {
	w := newWorld(t, resuming)
	a := w.push("f")
	upload := w.begin(a, "x")
	w.manifest(a, `{"parts":[],"bytes":0}`).wantStatus(t, http.StatusOK)
	w.mustAsk(a, http.MethodPatch, upload, strings.NewReader("x"), "Upload-Complete", "?1", "Upload-Offset", "0").wantStatus(t, http.StatusConflict)
	w.mustAsk(a, http.MethodPut, a.Endpoint+"/y", strings.NewReader("x"), "Upload-Complete", "?0").wantStatus(t, http.StatusBadRequest)
	w.wantContent(map[string]string{})
}

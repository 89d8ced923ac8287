package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// draftReceiver takes parts as the draft of resumable uploads has it. What has come of an upload counts at once.
type draftReceiver struct {
	limits  string // of OPTIONS; "" if it says nothing there
	silent  bool   // no 104
	all     int64  // bytes that all requests may bring together; 0: as many as there are
	token   string // that every request has to have; "": none
	host    string // that uploads go on at, as http://host:port; "": this one
	takes   int64  // bytes that a request may bring until the connection is cut; 0: as many as there are
	cut     func() // called before that
	lies    bool   // says that what it got is something else
	options int    // requests

	mu       sync.Mutex // guards what follows
	parts    map[string][]byte
	uploads  map[string]*draftUpload
	requests []string
	received int64
}

type draftUpload struct {
	name    string
	content []byte
	done    bool
}

func newDraftReceiver() *draftReceiver {
	return &draftReceiver{limits: "min-size=1024", parts: map[string][]byte{}, uploads: map[string]*draftUpload{}}
}

func (d *draftReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = append(d.requests, r.Method)
	u := d.uploads[strings.TrimPrefix(r.URL.Path, "/uploads/")]
	switch {
	case d.token != "" && r.Header.Get("Authorization") != d.token:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodOptions:
		d.options++
		if d.limits != "" {
			w.Header().Set("Upload-Limit", d.limits)
		}
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost || r.Method == http.MethodPut:
		d.create(w, r)
	case u == nil:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodHead:
		u.describe(w.Header())
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		delete(d.uploads, strings.TrimPrefix(r.URL.Path, "/uploads/"))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPatch:
		d.append(w, r, u)
	}
}

func (u *draftUpload) describe(h http.Header) {
	httpfield.SetCount(h, httpfield.UploadOffset, int64(len(u.content)))
	httpfield.SetComplete(h, u.done)
}

func (d *draftReceiver) create(w http.ResponseWriter, r *http.Request) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Disposition"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	complete, ok := httpfield.Complete(r.Header)
	if !ok || complete && d.silent {
		content, err := d.read(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		d.parts[params["filename"]] = content
		w.WriteHeader(http.StatusCreated)
		return
	}
	id := fmt.Sprint(len(d.uploads) + 1)
	u := &draftUpload{name: params["filename"]}
	d.uploads[id] = u
	w.Header().Set("Location", d.host+"/uploads/"+id)
	if complete {
		httpfield.SetCount(w.Header(), httpfield.UploadVersion, httpfield.Version)
		w.WriteHeader(httpfield.StatusResumptionSupported)
		w.Header().Del("Location")
	}
	d.bring(w, r, u, complete, http.StatusCreated)
}

func (d *draftReceiver) append(w http.ResponseWriter, r *http.Request, u *draftUpload) {
	complete, ok := httpfield.Complete(r.Header)
	offset, hasOffset := httpfield.Count(r.Header, httpfield.UploadOffset)
	if !ok || !hasOffset || r.Header.Get("Content-Type") != httpfield.PartialUpload || offset != int64(len(u.content)) {
		u.describe(w.Header())
		w.WriteHeader(http.StatusConflict)
		return
	}
	d.bring(w, r, u, complete, http.StatusNoContent)
}

func (d *draftReceiver) read(r *http.Request) ([]byte, error) {
	var body io.Reader = r.Body
	if d.takes > 0 {
		body = io.LimitReader(body, d.takes)
	}
	if d.all > 0 {
		body = io.LimitReader(body, max(0, d.all-d.received))
	}
	content, err := io.ReadAll(body)
	d.received += int64(len(content))
	if err == nil && d.all > 0 && d.received == d.all {
		err = errors.New("cut")
	}
	if err == nil && d.takes > 0 && int64(len(content)) == d.takes {
		err = errors.New("cut")
	}
	if err != nil && d.cut != nil {
		d.cut()
	}
	return content, err
}

// bring appends what a request has, as much of it as comes.
func (d *draftReceiver) bring(w http.ResponseWriter, r *http.Request, u *draftUpload, complete bool, status int) {
	content, err := d.read(r)
	u.content = append(u.content, content...)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if !complete {
		u.describe(w.Header())
		w.WriteHeader(status)
		return
	}
	sum := sdk.NewDigester(sdk.CRC32C)
	sum.Write(u.content)
	want, err := httpfield.Digests(r.Header, httpfield.ReprDigest)
	if err != nil || want.Compare(sum.Sum()) != nil || d.lies {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"type":"urn:towpath:problem:digest-mismatch","title":"no","status":400}`)
		return
	}
	u.done = true
	d.parts[u.name] = u.content
	u.describe(w.Header())
	w.WriteHeader(http.StatusOK)
}

func (d *draftReceiver) names() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.parts {
		names = append(names, name)
	}
	return names, nil
}

func (d *draftReceiver) content(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.parts[name], nil
}

// The suite of all sinks, against a receiver that can resume.
func TestResumableSinkSuite(t *testing.T) {
	sdktest.TestSink(t, sdktest.SinkCase{Resumable: true, New: func(t *testing.T) sdktest.Store {
		d := newDraftReceiver()
		server := newServer(t, d.ServeHTTP)
		return sdktest.Store{
			Sink:    sdk.NewDataSink(newSuitePlugin(t).Sinks[0]),
			Address: dps(server.URL), Names: d.names, Content: d.content,
		}
	}})
}

// sendUp writes one part, from an offset on, through a sink, and returns the tokens that it has given.
func sendUp(t *testing.T, s sdk.DataSink, a sdk.DataAddress, info sdk.PartInfo, content []byte, offset int64, token []byte, checkpoints bool) ([]byte, error) {
	t.Helper()
	stream, err := s.Write(t.Context(), sdk.WriteOpen{Flow: sdk.FlowContext{ParticipantContext: "default", ID: "f"}, Address: a,
		ResumeToken: token, Redelivery: token != nil})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	go func() {
		whole := sdk.NewDigester(sdk.CRC32C)
		whole.Write(content)
		frames := []sdk.Frame{&sdk.PartBegin{PartInfo: info, Offset: offset}}
		for at := offset; at < int64(len(content)); at += 256 << 10 {
			frames = append(frames, &sdk.Data{Payload: sdk.BytesPayload(content[at:min(at+256<<10, int64(len(content)))])})
			if checkpoints {
				frames = append(frames, &sdk.Checkpoint{Sequence: uint64(at + 1)})
			}
		}
		frames = append(frames, &sdk.PartEnd{Size: whole.Size(), Digests: whole.Sum()},
			&sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: whole.Size()}})
		for _, f := range frames {
			if stream.Send(f) != nil {
				return
			}
		}
	}()
	var last []byte
	for {
		said, err := stream.Recv()
		if err == io.EOF {
			return last, nil
		}
		if err != nil {
			return last, err
		}
		if d, ok := said.(*sdk.Durable); ok {
			last = d.Token
		}
	}
}

// What the receiver has of a part is not sent again, whether a checkpoint tells of it or only the memory of the process.
func TestSinkGoesOn(t *testing.T) {
	content := sdktest.Pattern(1, 8<<20)
	for _, tc := range []struct {
		name        string
		change      func(*draftReceiver)
		validator   string
		checkpoints bool
		forgets     bool // the process
		most        int64
	}{
		{"by a checkpoint", nil, "", true, true, 9 << 20},
		{"by memory", nil, "v1", false, false, 8 << 20},
		{"by 104", func(d *draftReceiver) { d.limits = "" }, "v1", false, false, 8 << 20},
		{"not without a validator", nil, "", false, false, 11 << 20},
		{"not without memory", nil, "v1", false, true, 11 << 20},
		{"not if it cannot", func(d *draftReceiver) { d.limits, d.silent = "", true }, "v1", true, false, 11 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDraftReceiver()
			if tc.change != nil {
				tc.change(d)
			}
			d.takes = 3 << 20
			server := httptest.NewServer(d)
			defer server.Close()
			s := sdk.NewDataSink(newTestPlugin(t, loopback()).Sinks[0])
			info := sdk.PartInfo{Name: "x", Size: int64(len(content)), Validator: tc.validator}
			token, err := sendUp(t, s, dps(server.URL), info, content, 0, nil, tc.checkpoints)
			if tc.checkpoints && err == nil {
				return // no request was as large as the cut
			}
			if e := sdk.AsError(err); e == nil || !e.Retryable {
				t.Fatalf("the cut is %v", err)
			}
			if names, _ := d.names(); len(names) > 0 {
				t.Fatalf("the receiver shows %v", names)
			}
			d.mu.Lock()
			d.takes = 0
			d.mu.Unlock()
			if tc.forgets {
				s = sdk.NewDataSink(newTestPlugin(t, loopback()).Sinks[0])
			}
			if _, err := sendUp(t, s, dps(server.URL), info, content, offsetOf(t, token), token, false); err != nil {
				t.Fatal(err)
			}
			got, _ := d.content("x")
			if !bytes.Equal(got, content) || len(d.parts) != 1 {
				t.Errorf("the receiver has %d parts, %d bytes", len(d.parts), len(got))
			}
			if d.received > tc.most {
				t.Errorf("%d bytes were sent, want at most %d: %v", d.received, tc.most, d.requests)
			}
		})
	}
}

// An upload that goes on at another host, where the token may not go, is none to go on with. The part arrives all the same.
func TestUploadAtAnotherHost(t *testing.T) {
	content := sdktest.Pattern(1, 4<<20)
	for _, limits := range []string{"min-size=1024", ""} {
		d := newDraftReceiver()
		server := httptest.NewServer(d)
		defer server.Close()
		d.limits, d.host = limits, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
		s := sdk.NewDataSink(newTestPlugin(t, loopback()).Sinks[0])
		info := sdk.PartInfo{Name: "x", Size: int64(len(content)), Validator: "v1"}
		if _, err := sendUp(t, s, dps(server.URL), info, content, 0, nil, true); err != nil {
			t.Fatal(err)
		}
		if got, _ := d.content("x"); !bytes.Equal(got, content) {
			t.Errorf("the receiver has %d bytes", len(got))
		}
		if slices.Contains(d.requests, http.MethodPatch) {
			t.Errorf("requests %v", d.requests)
		}
	}
}

// A receiver that is reached at another host goes on with what it has.
func TestUploadGoesOnAtAnotherHost(t *testing.T) {
	content := sdktest.Pattern(1, 8<<20)
	d := newDraftReceiver()
	d.all = 3 << 20
	first, second := httptest.NewServer(d), httptest.NewServer(d)
	defer first.Close()
	defer second.Close()
	info := sdk.PartInfo{Name: "x", Size: int64(len(content))}
	s := sdk.NewDataSink(newTestPlugin(t, loopback()).Sinks[0])
	to := func(url string) sdk.DataAddress {
		a := dps(url)
		a.Properties["authorization"], a.Properties["authType"] = "the-token of "+url, "bearer"
		d.mu.Lock()
		defer d.mu.Unlock()
		d.token = "Bearer the-token of " + url
		return a
	}
	token, err := sendUp(t, s, to(first.URL), info, content, 0, nil, true)
	if e := sdk.AsError(err); e == nil || !e.Retryable || offsetOf(t, token) == 0 {
		t.Fatalf("the cut is %v, with token %s", err, token)
	}
	d.mu.Lock()
	d.all = 0
	d.mu.Unlock()
	if _, err := sendUp(t, s, to(second.URL), info, content, offsetOf(t, token), token, false); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.content("x"); !bytes.Equal(got, content) || d.received > 9<<20 {
		t.Errorf("the receiver has %d bytes, %d were sent", len(got), d.received)
	}
}

// offsetOf returns the offset in a token of the SDK.
func offsetOf(t *testing.T, token []byte) int64 {
	t.Helper()
	if token == nil {
		return 0
	}
	_, after, ok := strings.Cut(string(token), `"offset":`)
	var n int64
	if _, err := fmt.Sscan(after, &n); !ok || err != nil {
		t.Fatalf("token %s: %v", token, err)
	}
	return n
}

// A receiver that finds another digest, or has lost what it had, has the part begun again.
func TestSinkBeginsAgain(t *testing.T) {
	content := sdktest.Pattern(2, 4<<20)
	info := sdk.PartInfo{Name: "x", Size: int64(len(content)), Validator: "v1"}
	corrupt := func(t *testing.T, err error) {
		t.Helper()
		if e := sdk.AsError(err); e == nil || e.Code != sdk.Corrupt || !e.Retryable {
			t.Fatalf("error %v, want a retryable corruption", err)
		}
	}
	t.Run("digest", func(t *testing.T) {
		d := newDraftReceiver()
		d.lies = true
		server := newServer(t, d.ServeHTTP)
		s := sdk.NewDataSink(newTestPlugin(t, loopback()).Sinks[0])
		_, err := sendUp(t, s, dps(server.URL), info, content, 0, nil, false)
		corrupt(t, err)
		if len(d.parts)+len(d.uploads) > 0 {
			t.Errorf("%d parts and %d uploads are left", len(d.parts), len(d.uploads))
		}
		d.mu.Lock()
		d.lies = false
		d.mu.Unlock()
		if _, err := sendUp(t, s, dps(server.URL), info, content, 0, nil, false); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("lost", func(t *testing.T) {
		d := newDraftReceiver()
		server := newServer(t, d.ServeHTTP)
		s := sdk.NewDataSink(newTestPlugin(t, loopback()).Sinks[0])
		token, err := sendUp(t, s, dps(server.URL), info, content, 0, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		d.mu.Lock()
		clear(d.uploads)
		d.mu.Unlock()
		_, err = sendUp(t, s, dps(server.URL), info, content, offsetOf(t, token), token, false)
		corrupt(t, err)
	})
}

// A flow that ends cancels the upload that it has begun.
func TestDeprovisionCancelsUpload(t *testing.T) {
	d := newDraftReceiver()
	d.takes = 1 << 20
	server := newServer(t, d.ServeHTTP)
	s := sdk.NewDataSink(newTestPlugin(t, loopback()).Sinks[0])
	content := sdktest.Pattern(3, 4<<20)
	info := sdk.PartInfo{Name: "x", Size: int64(len(content))}
	if _, err := sendUp(t, s, dps(server.URL), info, content, 0, nil, false); err == nil {
		t.Fatal("no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Deprovision(ctx, sdk.FlowContext{ParticipantContext: "default", ID: "f"}, dps(server.URL)); err != nil {
		t.Fatal(err)
	}
	if n := len(d.uploads); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

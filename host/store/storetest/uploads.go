package storetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Uploads is a flow.Uploads in memory. The zero value is empty.
type Uploads struct {
	// Ended says whether a flow has ended or never was. nil: none has.
	Ended func(flow.Key) bool

	mu      sync.Mutex // guards what follows
	uploads map[uploadKey]flow.Upload
}

type uploadKey struct {
	flow flow.Key
	name string
}

var _ flow.Uploads = (*Uploads)(nil)

// PutUpload creates or replaces an upload.
func (m *Uploads) PutUpload(_ context.Context, u flow.Upload) error {
	if m.Ended != nil && m.Ended(u.Key) {
		return flow.ErrNotFound
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.uploads == nil {
		m.uploads = map[uploadKey]flow.Upload{}
	}
	u.Content, u.Expires = bytes.Clone(u.Content), micro(u.Expires)
	m.uploads[uploadKey{u.Key, u.Name}] = u
	return nil
}

// Upload returns the upload of that name.
func (m *Uploads) Upload(_ context.Context, key flow.Key, name string) (flow.Upload, bool, error) {
	if m.Ended != nil && m.Ended(key) {
		return flow.Upload{}, false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.uploads[uploadKey{key, name}]
	u.Content = bytes.Clone(u.Content)
	return u, ok, nil
}

// Expired lists the uploads whose time was over at now.
func (m *Uploads) Expired(_ context.Context, now time.Time) ([]flow.Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []flow.Upload
	for _, u := range m.uploads {
		if u.Expires.Before(micro(now)) && (m.Ended == nil || !m.Ended(u.Key)) {
			u.Content = nil
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b flow.Upload) int { return a.Expires.Compare(b.Expires) })
	return found, nil
}

// DeleteUpload removes an upload.
func (m *Uploads) DeleteUpload(_ context.Context, u flow.Upload) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.uploads[uploadKey{u.Key, u.Name}].ID == u.ID {
		delete(m.uploads, uploadKey{u.Key, u.Name})
	}
	return nil
}

// TestUploads tests that a store does what flow.Uploads says. open returns an empty one; put creates a flow or moves it.
func TestUploads(t *testing.T, open func(t *testing.T) (s flow.Uploads, put func(flow.Key, flow.State))) {
	s, put := open(t)
	a, b := flow.Key{Context: "default", ID: "a"}, flow.Key{Context: "other", ID: "a"}
	put(a, flow.Started)
	put(b, flow.Prepared)
	end := micro(time.Now().Add(time.Hour))
	upload := func(key flow.Key, name, id string) flow.Upload {
		return flow.Upload{Key: key, Name: name, ID: id, Content: []byte("content of " + id), Expires: end}
	}
	check := func(key flow.Key, name string, want ...flow.Upload) {
		t.Helper()
		got, ok, err := s.Upload(t.Context(), key, name)
		if err != nil || ok != (len(want) == 1) {
			t.Fatalf("upload %q of %s: there %t, %v", name, key, ok, err)
		}
		if ok && !cmp.Equal(want[0], got) {
			t.Errorf("upload %q of %s: %s", name, key, cmp.Diff(want[0], got))
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(a, "x")
	for _, u := range []flow.Upload{upload(a, "x", "1"), upload(a, "y", "2"), upload(b, "x", "3"), upload(a, "x", "4")} {
		must(s.PutUpload(t.Context(), u))
	}
	check(a, "x", upload(a, "x", "4"))
	check(a, "y", upload(a, "y", "2"))
	check(b, "x", upload(b, "x", "3"))
	late := upload(b, "late", "7")
	late.Expires = end.Add(time.Second)
	must(s.PutUpload(t.Context(), late))
	expired := func(after time.Duration) (names string) {
		t.Helper()
		found, err := s.Expired(t.Context(), end.Add(after))
		must(err)
		for _, u := range found {
			names += " " + u.Key.Context + "/" + u.Key.ID + "/" + u.Name + "/" + u.ID
			if u.Content != nil || u.Expires.IsZero() {
				t.Errorf("listed as expired: %+v", u)
			}
		}
		return names
	}
	if got := expired(0); got != "" {
		t.Errorf("expired before their time:%s", got)
	}
	if got := expired(time.Millisecond); len(got) != len(" default/a/x/4 default/a/y/2 other/a/x/3") {
		t.Errorf("expired:%s", got)
	}
	if got := expired(time.Minute); !strings.HasSuffix(got, " other/a/late/7") {
		t.Errorf("the last one has expired last:%s", got)
	}
	must(s.DeleteUpload(t.Context(), upload(a, "x", "1")))
	check(a, "x", upload(a, "x", "4"))
	for range 2 {
		must(s.DeleteUpload(t.Context(), upload(a, "x", "4")))
		check(a, "x")
	}
	if err := s.PutUpload(t.Context(), upload(flow.Key{Context: "default", ID: "none"}, "x", "5")); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("upload to no flow: %v", err)
	}
	put(a, flow.Terminated)
	check(a, "y")
	check(b, "x", upload(b, "x", "3"))
	if err := s.PutUpload(t.Context(), upload(a, "y", "6")); !errors.Is(err, flow.ErrNotFound) {
		t.Errorf("upload to a flow that has ended: %v", err)
	}
	check(a, "y")
}

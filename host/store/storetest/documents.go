package storetest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Documents is a flow.Documents in memory. The zero value is empty.
type Documents struct {
	mu   sync.Mutex // guards what follows
	docs []flow.Document
}

var _ flow.Documents = (*Documents)(nil)

// PutDocument creates or replaces a document.
func (m *Documents) PutDocument(_ context.Context, d flow.Document) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.Content, d.Updated = bytes.Clone(d.Content), micro(time.Now())
	if i := m.index(d.Kind, d.Context, d.ID); i >= 0 {
		m.docs[i] = d
	} else {
		m.docs = append(m.docs, d)
	}
	return nil
}

// DeleteDocument removes a document.
func (m *Documents) DeleteDocument(_ context.Context, kind, context, id string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(kind, context, id)
	if i >= 0 {
		m.docs = slices.Delete(m.docs, i, i+1)
	}
	return i >= 0, nil
}

// Documents lists the documents of a kind.
func (m *Documents) Documents(_ context.Context, kind string) ([]flow.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []flow.Document
	for _, d := range m.docs {
		if d.Kind == kind {
			found = append(found, deepCopy(d))
		}
	}
	slices.SortFunc(found, func(a, b flow.Document) int {
		return cmp.Or(cmp.Compare(a.Context, b.Context), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

// index is called with mu held.
func (m *Documents) index(kind, context, id string) int {
	return slices.IndexFunc(m.docs, func(d flow.Document) bool { return d.Kind == kind && d.Context == context && d.ID == id })
}

// TestDocuments tests that a store does what flow.Documents says. open returns an empty one.
func TestDocuments(t *testing.T, open func(t *testing.T) flow.Documents) {
	s := open(t)
	begun := micro(time.Now()).Add(-time.Second)
	for _, d := range []flow.Document{
		{Kind: "k", Context: "b", ID: "1", Content: []byte("b1")}, {Kind: "k", Context: "a", ID: "2/\x00", Content: []byte("a2")},
		{Kind: "k", Context: "a", ID: "1", Content: []byte("a1")}, {Kind: "other", Context: "a", ID: "1", Content: []byte("o")},
		{Kind: "k", Context: "a", ID: "1", Content: []byte("a1 again")}, {Kind: "k", ID: "host/", Content: []byte("of all")},
	} {
		must(t, s.PutDocument(t.Context(), d))
	}
	expect := func(want ...string) {
		t.Helper()
		found, err := s.Documents(t.Context(), "k")
		must(t, err)
		var got []string
		for _, d := range found {
			got = append(got, d.Context+" "+d.ID+" "+string(d.Content))
			if d.Kind != "k" || d.Updated.Before(begun) {
				t.Errorf("document %+v", d)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("documents are %q, want %q", got, want)
		}
	}
	expect(" host/ of all", "a 1 a1 again", "a 2/\x00 a2", "b 1 b1")
	for _, want := range []bool{true, false} {
		for context, id := range map[string]string{"a": "1", "": "host/"} {
			there, err := s.DeleteDocument(t.Context(), "k", context, id)
			must(t, err)
			if there != want {
				t.Errorf("deleted: %v, want %v", there, want)
			}
		}
	}
	expect("a 2/\x00 a2", "b 1 b1")
	if found, err := s.Documents(t.Context(), "none"); err != nil || len(found) > 0 {
		t.Errorf("documents of a kind without any: %v, %v", found, err)
	}
}

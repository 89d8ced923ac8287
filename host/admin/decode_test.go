package admin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Whatever is put, it is refused with fields named, or stored and read again as it was.
func FuzzDecodeDataset(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{}`, `[]`, `{"id":"a","context":"b","mode":"async","sink":{"type":"x"}}`, `{"mode":"x"}`, `{"mode":null}`, `{"a":1,"a":2}`,
		`{"source":{"type":"File","endpoint":"file://x","properties":{"path":"p","":"","\u0000":"é"}}}`,
		`{"sink":{"type":"","properties":[]}}`, `{"sink":{"type":"x","properties":{"a":"\ud83d\ude00"}}}`,
		`{"sink":{"type":"\ud83d"}}`, `{"sink":{"type":"\ufffd"}}`, `{"sink":{"\udead":"x"}}`, "{\"sink\":{\"type\":\"\xff\"}}", `{"source":{`,
		`{"source":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, wrong := decodeDataset(body)
		if len(wrong) > 0 {
			for _, w := range wrong {
				if w.Message == "" || len(w.Field) > 210 {
					t.Errorf("field %q is wrong: %q", w.Field, w.Message)
				}
			}
			return
		}
		var loose struct {
			Mode, ID string
			Source   json.RawMessage
		}
		if err := json.Unmarshal(body, &loose); err != nil {
			t.Fatalf("%s was read strictly, but not by encoding/json: %v", body, err)
		}
		stored, err := encodeDataset(d)
		if err != nil {
			t.Fatal(err)
		}
		again, wrong := decodeDataset(stored)
		if len(wrong) > 0 {
			t.Fatalf("%s was stored as %s, which is wrong: %v", body, stored, wrong)
		}
		for _, a := range []*map[string]string{&d.Source.Properties, &d.Sink.Properties} {
			if len(*a) == 0 {
				*a = nil // as it is stored
			}
		}
		if !reflect.DeepEqual(d, again) {
			t.Errorf("%s was read as\n%#v and after it was stored as\n%#v", body, d, again)
		}
	})
}

func FuzzLimit(f *testing.F) {
	for _, seed := range []string{`{"bytesPerSecond": 1, "recordsPerSecond": 0, "transfers": 3, "weight": 4}`, `{"weight": null}`, `{"weight": 1e3}`,
		`{"weight": 1, "weight": 2}`, `[]`, `{"bytesPerSecond": 9007199254740993}`, `{"colour": 1}`, "{", "\xff"} {
		f.Add([]byte(seed))
	}
	members := []string{bytesMember, recordsMember, transfersMember, weightMember}
	f.Fuzz(func(t *testing.T, body []byte) {
		l, wrong := decodeLimit(body, members)
		if len(wrong) > 0 {
			return
		}
		stored, err := json.Marshal(newLimitValues(l))
		if err != nil {
			t.Fatal(err)
		}
		again, wrong := decodeLimit(stored, members)
		if len(wrong) > 0 || !reflect.DeepEqual(l, again) {
			t.Errorf("%s was stored as %s, which is read as %+v, %v", body, stored, again, wrong)
		}
	})
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"", "state=started&state=PREPARED&limit=7&before=2026-01-02T15:04:05Z&context=a", "limit=0", "limit=1e3",
		"before=now", "state=", "state=INITIALIZED", "limit=%zz;", "before=0000-01-01T00:00:00Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		filter, err := parseFilter(&http.Request{URL: &url.URL{RawQuery: query}})
		if err != nil {
			if !strings.Contains(err.Error(), ": ") {
				t.Errorf("what is wrong is not named: %v", err)
			}
			return
		}
		if filter.Limit < 1 || filter.Limit > maxLimit {
			t.Errorf("limit %d", filter.Limit)
		}
		for _, s := range filter.States {
			if !slices.Contains(flow.States(), s) {
				t.Errorf("state %q", s)
			}
		}
	})
}

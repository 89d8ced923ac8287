package signaling

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
)

func TestCheckJSON(t *testing.T) {
	tests := []struct {
		body  string
		field string
		want  string // part of the error, "" if there is none
	}{
		{`{}`, "", ""},
		{` {"a":{"b":1},"c":{"b":1}} `, "", ""},
		{`{"a":"\ud83d\ude00 \\ud83d \u0000"}`, "", ""},
		{`{"a":"�"}`, "", ""},
		{`[` + strings.Repeat(`[`, maxDepth-1) + strings.Repeat(`]`, maxDepth), "", ""},

		{``, "", "unexpected end"},
		{`{`, "", "unexpected end"},
		{`{"a":1}x`, "", "after top-level value at byte 8"},
		{`{"a":1}{"a":1}`, "", "after top-level value"},
		{`{"a":1,}`, "", "not JSON"},
		{`{a:1}`, "", "not JSON"},
		{`{'a':1}`, "", "not JSON"},
		{`{"a":NaN}`, "", "not JSON"},
		{`{"a":01}`, "", "not JSON"},
		{`{"a":1} // x`, "", "not JSON"},
		{"\ufeff{}", "", "not JSON"},
		{"{\"a\":\"\n\"}", "", "not JSON"},
		{"{\"a\":\"\xff\"}", "", "not UTF-8"},
		{"{\"a\":\"\xed\xa0\x80\"}", "", "not UTF-8"},
		{`{"a":"\ud83d"}`, "", "surrogate"},
		{`{"a":"\ude00\ud83d"}`, "", "surrogate"},
		{`{"a":"\ud83d\n"}`, "", "surrogate"},
		{`{"\udfff":1}`, "", "surrogate"},
		{`{"a":1,"a":1}`, "a", "twice"},
		{`{"a":1,"\u0061":1}`, "a", "twice"},
		{`{"a":{"b":[0,{"c":1,"c":2}]}}`, "a.b[1].c", "twice"},
		{`[[{"c":1,"c":2}]]`, "[0][0].c", "twice"},
		{strings.Repeat(`[`, maxDepth+1) + strings.Repeat(`]`, maxDepth+1), "", "deeper than"},
		{strings.Repeat(`{"a":`, maxDepth+1) + `1` + strings.Repeat(`}`, maxDepth+1), "", "deeper than"},
		{strings.Repeat(`[`, 1<<20), "", "not JSON"},
	}
	for _, tt := range tests {
		name := tt.body[:min(len(tt.body), 40)]
		t.Run(name, func(t *testing.T) {
			err := checkJSON([]byte(tt.body))
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var request *flow.RequestError
			if !errors.As(err, &request) || request.Field != tt.field || !strings.Contains(request.Message, tt.want) {
				t.Errorf("%v, want field %q and %q", err, tt.field, tt.want)
			}
		})
	}
}

// A long name above many members must not cost its length for each of them.
func TestCheckJSONCostOfPlaces(t *testing.T) {
	name := strings.Repeat("n", 200<<10)
	var b strings.Builder
	b.WriteString(`{"` + name + `":[0`)
	for range 200_000 {
		b.WriteString(`,0`)
	}
	b.WriteString(`]}`)
	body := []byte(b.String())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := checkJSON(body); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
		t.Errorf("checking %d bytes allocates %d", len(body), allocated)
	}
}

func TestPlaceIsCut(t *testing.T) {
	long := `{"` + strings.Repeat("ü", 500) + `":{"a":1,"a":1}}`
	var request *flow.RequestError
	if err := checkJSON([]byte(long)); !errors.As(err, &request) || len(request.Field) > 210 || !strings.HasSuffix(request.Field, "…") {
		t.Errorf("field of %d bytes: %v", len(request.Field), request)
	}
}

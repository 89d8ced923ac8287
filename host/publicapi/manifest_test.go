package publicapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestManifest(t *testing.T) {
	w := newWorld(t, nil)
	a := w.push("f")
	w.put(a, "a", "one", nil).wantStatus(t, 201)
	w.put(a, "b/c", "three", nil).wantStatus(t, 201)
	crc := func(s string) string { return digestsOf(s, sdk.CRC32C).Hex(sdk.CRC32C) }
	one := `{"index":0,"name":"a","size":3,"digests":{"crc32c":"` + crc("one") + `"}}`
	three := `{"index":1,"name":"b/c","size":5,"digests":{"crc32c":"` + strings.ToUpper(crc("three")) + `","sha256":"00"}}`
	for _, tc := range []struct {
		body        string
		status      int
		differences []difference
	}{
		{`{"parts":[` + one + `],"bytes":3}`, 409, []difference{{"b/c", "is not in the manifest"}}},
		{`{"parts":[` + one + `,{"name":"b/c","size":4},{"name":"d","size":0}]}`, 409,
			[]difference{{"b/c", "has 5 bytes, not 4"}, {"d", "has not come"}}},
		{`{"parts":[` + three + `,{"name":"a","size":3,"digests":{"crc32c":"00000000"}}]}`, 409,
			[]difference{{"a", "crc32c is " + crc("one") + ", announced 00000000"}}},
		{`{"parts":[` + three + `,{"name":"a","size":3,"digests":{"md5":"00"}}]}`, 409,
			[]difference{{"a", "has no digest that could be compared: only crc32c=" + crc("one")}}},
		{`{"parts":[` + one + `,` + three + `],"bytes":9}`, 422, nil},
		{`{"parts":[` + one + `,` + one + `]}`, 422, nil},
		{`{"parts":[{"name":"a","size":9223372036854775807},{"name":"b","size":1}]}`, 422, nil},
		{`{"parts":[{"name":"a","size":-1}]}`, 400, nil},
		{`{"parts":[{"name":"a"}]}`, 400, nil},
		{`{"parts":[{"name":"../a","size":1}]}`, 400, nil},
		{`{"parts":[{"name":"a","size":1,"digests":{"crc32c":"xyz"}}]}`, 400, nil},
		{`{"parts":[{"name":"a","size":1,"digests":{"crc32c":""}}]}`, 400, nil},
		{`{"parts":[{"name":"a","size":1,"size":2}]}`, 400, nil},
		{`{"parts":[{"name":"a","size":1,"Size":2}]}`, 400, nil},
		{`{"parts":[{"name":"a","size":1.5}]}`, 400, nil},
		{`{"parts":[{"name":"a","seize":1,"size":1}]}`, 400, nil},
		{`{"parts":[]} x`, 400, nil},
		{`{"parts":[`, 400, nil},
		{`{"bytes":0}`, 400, nil},
		{`null`, 400, nil},
		{`[]`, 400, nil},
		{``, 400, nil},
		{`{"parts":[{"name":"` + "\xff" + `","size":1}]}`, 400, nil},
		{strings.Repeat(`{"parts":[`, 5000), 400, nil},
	} {
		p := w.manifest(a, tc.body).wantStatus(t, tc.status)
		if diff := cmp.Diff(tc.differences, p.Differences); diff != "" {
			t.Errorf("%.80s: %s", tc.body, diff)
		}
	}
	res := w.do(a, a.Get("manifestUrl"), request{method: http.MethodPost, body: strings.NewReader(`{}`), header: h("Content-Type", "text/plain")})
	res.wantStatus(t, http.StatusUnsupportedMediaType)
	w.put(a, "d", "x", nil).wantStatus(t, 201) // nothing has closed it
	good := `{"parts":[` + three + `,` + one + `,{"name":"d","size":1}],"bytes":9}`
	w.manifest(a, good).wantBody(t, http.StatusOK, `{"bytes":9,"parts":3}`)
	w.manifest(a, good).wantBody(t, http.StatusOK, `{"bytes":9,"parts":3}`)
	w.manifest(a, `{"parts":[]}`).wantStatus(t, http.StatusConflict)

	// A sender that did not hear of the end may begin again.
	w.put(a, "a", "one", nil).wantPart(t, http.StatusOK, "a", "one")
	w.put(a, "a", "two", nil).wantStatus(t, http.StatusConflict)
	w.put(a, "a", "longer", nil).wantStatus(t, http.StatusConflict)
	w.put(a, "e", "new", nil).wantStatus(t, http.StatusConflict)
	w.wantContent(map[string]string{"a": "one", "b/c": "three", "d": "x"})
}

func TestManyDifferences(t *testing.T) {
	w := newWorld(t, nil)
	a := w.push("f")
	var parts []string
	for i := range 150 {
		parts = append(parts, fmt.Sprintf(`{"name":"p%03d","size":0}`, i))
	}
	p := w.manifest(a, `{"parts":[`+strings.Join(parts, ",")+`]}`).wantStatus(t, http.StatusConflict)
	if len(p.Differences) != maxDifferences || p.More != 50 || p.Differences[99].Name != "p099" {
		t.Errorf("%d differences and %d more", len(p.Differences), p.More)
	}
}

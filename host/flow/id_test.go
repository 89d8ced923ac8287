package flow

import (
	"strings"
	"testing"
)

func TestCheckID(t *testing.T) {
	for id, want := range map[string]string{
		"f": "", "a/b ü#?%": "", "urn:uuid:1": "", "...": "", strings.Repeat("ü", MaxID): "",
		"": "is empty", "\xff": "UTF-8", strings.Repeat("x", MaxID+1): "longer", "a\nb": "control", "\u0085": "control", ".": "must not", "..": "must not",
	} {
		if got := CheckID(id); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%.20q: %q, want %q", id, got, want)
		}
	}
}

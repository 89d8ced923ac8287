package edc

import (
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
)

func TestTractusXAudience(t *testing.T) {
	for metadata, want := range map[string]string{
		`{"https://w3id.org/tractusx/auth/audience":"did:web:c"}`:   "did:web:c",
		`{"https://w3id.org/tractusx/auth/audience":["did:web:c"]}`: "",
		`{"audience":"did:web:c"}`:                                  "",
		`{}`:                                                        "",
		``:                                                          "",
		`[`:                                                         "",
	} {
		if got := TractusXAudience(&flow.Flow{Metadata: []byte(metadata)}); got != want {
			t.Errorf("%s: %q, want %q", metadata, got, want)
		}
	}
}

package config

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretIsNotShown(t *testing.T) {
	text := theSecret
	type outer struct {
		Shown  Secret
		hidden Secret
		list   []Secret
		at     map[string]Secret
	}
	s := Secret{text: &text}
	o := outer{Shown: s, hidden: s, list: []Secret{s}, at: map[string]Secret{"a": s}}
	for _, v := range []any{s, &s, o, &o, []any{o}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			if got := fmt.Sprintf(verb, v); mentionsSecret(got) || strings.Contains(got, fmt.Sprintf("%x", theSecret)) {
				t.Errorf("%s: %s", verb, got)
			}
		}
		var logged strings.Builder
		slog.New(slog.NewTextHandler(&logged, nil)).Info("", "v", v)
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("", "v", v)
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := logged.String() + string(encoded); mentionsSecret(got) {
			t.Error(got)
		}
	}
	if encoded, err := xml.Marshal(s); err != nil || mentionsSecret(string(encoded)) {
		t.Errorf("%s, %v", encoded, err)
	}
	if got := s.String() + (Secret{}).String(); got != redacted {
		t.Errorf("printed as %q", got)
	}
	if !(Secret{}).IsZero() || s.IsZero() || s.Reveal() != theSecret || (Secret{}).Reveal() != "" || s.Equal(Secret{}) || !s.Equal(s) {
		t.Error("a secret is not what it is")
	}
}

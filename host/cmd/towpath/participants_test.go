package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParticipants(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "towpath.hcl")
	text := `
dataplane "d" {}
plugins { directory = "plugins" }
profile "http-pull" {}
participant_context "alice" {
  did = "did:web:alice.example"
}
control_plane "cp" {
  endpoint = "http://127.0.0.1:1"
}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	towpath := func(args ...string) int {
		stdout.Reset()
		stderr.Reset()
		return run(append(args, "-config", file), &stdout, &stderr)
	}
	want := "CONTEXT  DID                    KEY"
	if code := towpath("participants", "list"); code != exitOK || !strings.HasPrefix(stdout.String(), want) ||
		!strings.Contains(stdout.String(), "cp") {
		t.Errorf("list: %d %s%s", code, stdout.String(), stderr.String())
	}
	var document struct {
		ID      string
		Methods []struct{ ID string } `json:"verificationMethod"`
	}
	code := towpath("participants", "document", "alice")
	if err := json.Unmarshal(stdout.Bytes(), &document); err != nil || code != exitOK {
		t.Fatalf("document: %d %v %s%s", code, err, stdout.String(), stderr.String())
	}
	if document.ID != "did:web:alice.example" || len(document.Methods) != 1 || document.Methods[0].ID != "did:web:alice.example#key-1" {
		t.Errorf("document %s", stdout.String())
	}
	first := stdout.String()
	if towpath("participants", "document", "alice"); stdout.String() != first {
		t.Error("the key is another one the second time")
	}
	for _, name := range []string{"default", "nobody"} {
		if code := towpath("participants", "document", name); code != exitNotFound {
			t.Errorf("document of %s: exit code %d", name, code)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	for name, want := range map[string]int{"signaling": exitOK, "public": exitOK, "admin": exitOK, "../serve": exitNotFound, "": exitNotFound} {
		var stdout, stderr bytes.Buffer
		code := run([]string{"openapi", name}, &stdout, &stderr)
		if code != want || strings.HasPrefix(stdout.String(), "openapi: ") != (want == exitOK) {
			t.Errorf("%q: exit code %d, %.40s%s", name, code, stdout.String(), stderr.String())
		}
	}
}

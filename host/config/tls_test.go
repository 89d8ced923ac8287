package config

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBrokenCertificate(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "good")
	text, err := os.ReadFile(filepath.Join(dir, "good.pem"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "ca.pem")
	broken := append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})...)
	if err := os.WriteFile(name, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkCertificates(name); err == nil || !strings.Contains(err.Error(), "certificate 2: ") {
		t.Errorf("got %v", err)
	}
}

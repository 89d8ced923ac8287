package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const dialledOverTCP = minimal + `
plugin "x" {
  address = "tcp://plugin.internal:7443"
  tls {
    certificate = "host.pem"
    key         = "host.key"
    ca          = "host.pem"
    server_name = "x.internal"
  }
}
`

func TestPluginDialledOverTCP(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "host")
	name := filepath.Join(dir, "towpath.hcl")
	if err := os.WriteFile(name, []byte(dialledOverTCP), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	pem := filepath.Join(dir, "host.pem")
	want := DialTLS{Certificate: pem, Key: filepath.Join(dir, "host.key"), CA: pem, ServerName: "x.internal"}
	if p := c.Plugins.Declared[0]; p.Address != "tcp://plugin.internal:7443" || *p.TLS != want {
		t.Errorf("%+v, %+v", p, p.TLS)
	}
	// It may be away while the host starts, but not while the configuration is validated.
	if err := c.Check(nil); err == nil || !strings.Contains(err.Error(), `The plugin "x" was not reached at tcp://plugin.internal:7443.`) {
		t.Errorf("check: %v", err)
	}
	later, err := c.CheckSome(nil, "x")
	if err != nil || later == nil || !strings.Contains(later.Error(), "was not reached") {
		t.Errorf("later %v, at once %v", later, err)
	}
}

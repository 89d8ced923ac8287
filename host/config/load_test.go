package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// minimal is the least that can be loaded.
const minimal = `dataplane "d" {}
control_plane "cp" {
  endpoint = "https://cp.example.com"
}
plugins {
  directory = "plugins"
  trust     = "off"
}
profile "http-pull" {}
`

// write makes a configuration of one file and returns its name.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "towpath.hcl")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// wantError loads a text and wants an error that contains every one of the given strings.
func wantError(t *testing.T, text string, want ...string) {
	t.Helper()
	_, err := Load(write(t, text))
	if err == nil {
		t.Fatal("no error")
	}
	checkError(t, err)
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

func TestEncodings(t *testing.T) {
	for name, text := range map[string]string{
		"byte order mark": "\xef\xbb\xbf" + minimal,
		"CRLF":            strings.ReplaceAll(minimal, "\n", "\r\n"),
		"no last newline": strings.TrimSuffix(minimal, "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Load(write(t, text)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("Latin-1", func(t *testing.T) {
		wantError(t, minimal+"# Stra\xdfe\n", ":10:7: Not UTF-8")
	})
	t.Run("UTF-16", func(t *testing.T) {
		wantError(t, "\xff\xfed\x00", ":1:1: Not UTF-8")
	})
	t.Run("NUL", func(t *testing.T) {
		wantError(t, minimal+"\x00", ":10:1: ")
	})
	t.Run("column behind letters of several bytes", func(t *testing.T) {
		wantError(t, "# é日本\n\"日本\" \xff", ":2:6: Not UTF-8")
	})
}

func TestLimits(t *testing.T) {
	for name, text := range map[string]string{
		"brackets":    "a = " + strings.Repeat("[", 20_000),
		"parentheses": "a = " + strings.Repeat("(", 20_000),
		"braces":      strings.Repeat("a {\n", 20_000),
		"templates":   "a = " + strings.Repeat(`"${`, 20_000),
		"minuses":     "a = " + strings.Repeat("-", 20_000) + "1",
		"exclamation": "a = " + strings.Repeat("!", 20_000) + "true",
		"sum":         "a = 1" + strings.Repeat("+1", 20_000),
		"conditions":  "a = " + strings.Repeat("true?1:", 20_000) + "1",
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, text, "Expression too large")
		})
	}
	for _, number := range []string{"1e9999999", "1E-9999999", strings.Repeat("9", 100)} {
		t.Run("number "+number[:4], func(t *testing.T) {
			wantError(t, "a = "+number, "Unsuitable number")
		})
	}
	t.Run("file size", func(t *testing.T) {
		wantError(t, strings.Repeat("# \n", maxFileSize/3+1), "larger than 4 MiB")
	})
	t.Run("many datasets", func(t *testing.T) {
		var b strings.Builder
		b.WriteString(minimal)
		for i := range 2_000 {
			fmt.Fprintf(&b, "dataset \"%d\" {\n  sink \"X\" {\n    n = %d\n  }\n}\n", i, -i)
		}
		c, err := Load(write(t, b.String()))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Datasets) != 2_000 {
			t.Errorf("%d datasets", len(c.Datasets))
		}
	})
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.hcl")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder.hcl")
	if err := os.MkdirAll(filepath.Join(folder, "x.hcl"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "nowhere.hcl"): "nowhere.hcl: Cannot read the configuration; no such file or directory.",
		pipe:                              "pipe.hcl: Cannot read the configuration; it is not a regular file.",
		folder:                            "x.hcl: Cannot read the configuration; it is not a regular file.",
	} {
		_, err := Load(path)
		if err == nil {
			t.Errorf("%s: no error", path)
			continue
		}
		checkError(t, err)
		if got := err.Error(); !strings.HasSuffix(got, want) || strings.Contains(got, "\n") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSecretModes(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o620: false} {
		chmod(t, name, mode)
		_, err := readFile(name, true)
		if (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestTextThatHCLWouldChange(t *testing.T) {
	t.Setenv("TOWPATH_TEST_DECOMPOSED", "e\u0301")
	wantError(t, minimal+`dataset "a" {
  sink "X" {
    a = env("TOWPATH_TEST_DECOMPOSED")
  }
}
`, "normalization form C")
	t.Setenv("TOWPATH_TEST_BYTES", "\xff")
	wantError(t, minimal+`dataset "a" {
  sink "X" {
    a = env("TOWPATH_TEST_BYTES")
  }
}
`, "TOWPATH_TEST_BYTES is not text in UTF-8")
}

func TestFileFunctionTakesOneNewlineOff(t *testing.T) {
	for text, want := range map[string]string{"a": "a", "a\n": "a", "a\r\n": "a", "a\n\n": "a\n", "": "", "\n": ""} {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := fileText(name, false)
		if err != nil || got.AsString() != want {
			t.Errorf("%q: got %#v, %v, want %q", text, got, err, want)
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "a")
	writePair(t, dir, "b")
	load := func(certificate, key string) (*Config, error) {
		name := filepath.Join(dir, "towpath.hcl")
		text := minimal + fmt.Sprintf("listen \"public\" {\n  tls {\n    certificate = %q\n    key = %q\n  }\n}\n", certificate, key)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(name)
	}
	c, err := load("a.pem", "a.key")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "a.key"); c.Public.TLS.Key != want {
		t.Errorf("key is %s, want %s", c.Public.TLS.Key, want)
	}
	if want := "https://127.0.0.1:18081"; c.Public.URL != want {
		t.Errorf("url is %s, want %s", c.Public.URL, want)
	}
	if _, err := load("a.pem", "b.key"); err == nil || !strings.Contains(err.Error(), ":12:19: Unsuitable certificate or key; ") {
		t.Errorf("a key of another certificate: %v", err)
	}
}

// writePair makes a certificate name.pem with its key name.key.
func writePair(t testing.TB, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: certificate},
		name + ".key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfigPrintedHidesSecrets(t *testing.T) {
	for _, c := range cases(t, "good") {
		t.Run(c.name, func(t *testing.T) {
			config, err := loadAndCheck(c.path)
			if err != nil {
				t.Fatal(err)
			}
			checkHidden(t, config)
		})
	}
}

// checkHidden prints, marshals and logs a configuration, and wants no secret in what comes out.
func checkHidden(t *testing.T, c *Config) {
	t.Helper()
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(encoded)}
	parts := []any{c, c.Plugins, c.Datasets, c.Admin, &c.Admin, c.ParticipantContexts, c.ControlPlanes}
	for _, p := range c.ControlPlanes {
		parts = append(parts, p, p.Authorization, p.Registration)
		if p.Authorization != nil {
			parts = append(parts, *p.Authorization, p.Authorization.Inbound, &p.Authorization.Inbound)
		}
		if p.Registration != nil {
			parts = append(parts, *p.Registration, p.Registration.Headers, p.Registration.Authorization)
		}
	}
	for _, v := range parts {
		var logged strings.Builder
		slog.New(slog.NewTextHandler(&logged, nil)).Info("", "value", v)
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("", "value", v)
		texts = append(texts, fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), logged.String())
	}
	for _, text := range texts {
		if mentionsSecret(text) {
			t.Errorf("a secret is shown: %s", text)
		}
	}
}

func TestPrint(t *testing.T) {
	c, err := Load(write(t, minimal+`plugin "kinds" {
  config {
    text   = "x"
    colour = "blue"
    pin    = "hunter2"
  }
}
dataset "a" {
  source "Kinds" {
    label = "nine"
  }
}
`))
	if err != nil {
		t.Fatal(err)
	}
	var list *Error
	if err := c.Check(testPlugins()); !errors.As(err, &list) {
		t.Fatalf("got %v", err)
	}
	var b strings.Builder
	if err := list.Print(&b, false); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, `label = "nine"`) {
		t.Errorf("the source is not shown:\n%s", text)
	}
	if text := b.String() + list.Error(); strings.Contains(text, "hunter2") {
		t.Errorf("a value that its schema calls sensitive is shown:\n%s", text)
	}
}

func TestPluginConfigBeforeCheck(t *testing.T) {
	c, err := Load(write(t, minimal+"plugin \"synthetic\" {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.PluginConfig("synthetic"); got != nil {
		t.Errorf("before Check: %s", got)
	}
	if err := c.Check(shippedPlugins()); err != nil {
		t.Fatal(err)
	}
	if got := string(c.PluginConfig("synthetic")); got != "{}" {
		t.Errorf("after Check: %q", got)
	}
	if got := c.PluginConfig("file"); got != nil {
		t.Errorf("without a block: %s", got)
	}
	if err := c.Check(nil); err == nil {
		t.Error("a plugin that is not there passes Check")
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.1.2.3:1": true, "[::1]:1": true, "localhost:1": true,
		":1": false, "0.0.0.0:1": false, "10.0.0.1:1": false, "example.com:1": false, "[::]:1": false,
	} {
		if got := (Listener{Address: address}).Loopback(); got != want {
			t.Errorf("%s: got %v", address, got)
		}
	}
}

func TestDirectionOf(t *testing.T) {
	for name, want := range map[string]Direction{
		"http-push": Push, "http-pull": Pull, "HttpData-PULL": Pull, "HttpData-PUSH": Push, "HttpData-PULL-HttpData": Pull,
		"https://w3id.org/dspace-sig/profile/http-pull": Pull, "push-http": "", "push": "", "pull-x-y": "", "http": "", "": "",
		"a-push-pull": Pull, "-pull": Pull, "http-pulled": "",
	} {
		if got := directionOf(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	candidates := []string{"File", "HttpData", "S3"}
	for name, want := range map[string]string{
		"file": "File", "Fiel": "File", "HTTPDATA": "HttpData", "HttpDta": "HttpData", "Kafka": "", "S": "S3", "": "", "XY": "",
	} {
		suggestion := ""
		if want != "" {
			suggestion = fmt.Sprintf(" Did you mean %q?", want)
		}
		if got := didYouMean(name, candidates); got != suggestion {
			t.Errorf("%q: got %q, want %q", name, got, suggestion)
		}
	}
}

func TestNoPluginsAtAll(t *testing.T) {
	c, err := Load(write(t, minimal+"dataset \"a\" {\n  sink \"X\" {}\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check([]sdk.Description{}); err == nil || !strings.Contains(err.Error(), `No plugin writes "X". There are: none.`) {
		t.Errorf("got %v", err)
	}
}

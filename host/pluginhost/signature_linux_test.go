package pluginhost

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/towpath-dataplane/towpath/sdk"
)

// signer is a publisher.
type signer struct {
	public  minisign.PublicKey
	private minisign.PrivateKey
}

func newSigner(t *testing.T) signer {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{public, private}
}

// sign puts a signature beside a file.
func (s signer) sign(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := minisign.NewReader(file)
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	write(t, path+signatureSuffix, r.Sign(s.private))
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// ownCopy returns a plugin directory with a copy of the misbehaving plugin that a test may change, and the file in it.
func ownCopy(t *testing.T) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	path = filepath.Join(dir, filePrefix+"good")
	content, err := os.ReadFile(misbehave)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, path
}

// tamper changes one byte at the end of a file, where a program does not mind.
func tamper(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
}

func TestSignatures(t *testing.T) {
	acme, other := newSigner(t), newSigner(t)
	keys := map[string]string{"acme": acme.public.String(), "zenith": newSigner(t).public.String()}
	for _, test := range []struct {
		name     string
		trust    Trust
		settings Settings
		prepare  func(t *testing.T, path string)
		says     string // "" if it may be executed
	}{
		{"signed", TrustSigned, Settings{}, acme.sign, ""},
		{"signed by the plugin's publisher", TrustSigned, Settings{Publisher: "acme"}, acme.sign, ""},
		{"signed by another publisher", TrustSigned, Settings{Publisher: "zenith"}, acme.sign, "none of the publishers [zenith]"},
		{"under another policy", TrustOff, Settings{Publisher: "acme"}, acme.sign, ""},
		{"unsigned under another policy", TrustOff, Settings{Publisher: "acme"}, nil, "it is not signed"},
		{"not signed", TrustSigned, Settings{}, nil, "it is not signed"},
		{"tampered", TrustSigned, Settings{}, func(t *testing.T, path string) { acme.sign(t, path); tamper(t, path) },
			`not the one that publisher "acme" has signed`},
		{"wrong key", TrustSigned, Settings{}, other.sign, "none of the publishers [acme zenith]"},
		{"garbage", TrustSigned, Settings{}, func(t *testing.T, path string) { write(t, path+signatureSuffix, []byte("\x00garbage\n\n\n")) },
			"not one of minisign"},
		{"empty", TrustSigned, Settings{}, func(t *testing.T, path string) { write(t, path+signatureSuffix, nil) }, "not one of minisign"},
		{"endless", TrustSigned, Settings{}, func(t *testing.T, path string) {
			write(t, path+signatureSuffix, []byte(strings.Repeat("x", maxSignature+1)))
		}, "it is too long"},
		{"a folder", TrustSigned, Settings{}, func(t *testing.T, path string) {
			if err := os.Mkdir(path+signatureSuffix, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"old kind", TrustSigned, Settings{}, func(t *testing.T, path string) {
			content, _ := os.ReadFile(path)
			write(t, path+signatureSuffix, minisign.Sign(acme.private, content))
		}, "of the old kind"},
		{"another file's", TrustSigned, Settings{}, func(t *testing.T, path string) {
			write(t, path+"2", []byte("other"))
			acme.sign(t, path+"2")
			os.Rename(path+"2"+signatureSuffix, path+signatureSuffix)
		}, "does not fit"},
		{"pin of another file", TrustSigned, Settings{SHA256: strings.Repeat("ab", 32)}, acme.sign, "is pinned"},
		{"writable by others, which a signature makes up for", TrustSigned, Settings{}, func(t *testing.T, path string) {
			acme.sign(t, path)
			os.Chmod(filepath.Dir(path), 0o777)
		}, ""},
		{"writable by others", TrustDirectory, Settings{}, func(t *testing.T, path string) { os.Chmod(filepath.Dir(path), 0o777) },
			"written by everyone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, path := ownCopy(t)
			if test.prepare != nil {
				test.prepare(t, path)
			}
			h, err := New(Options{Directory: dir, Trust: test.trust, RuntimeDir: runtimeDir(t), Publishers: keys,
				Plugins: map[string]Settings{"good": test.settings}})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close(t.Context())
			err = h.Start(t.Context(), nil)
			i := info(t, h, "good")
			if test.says == "" && (err != nil || i.State != StateReady) {
				t.Errorf("%s: %v", i.Reason, err)
			}
			if test.says != "" {
				mustContain(t, err, test.says)
				if i.PID != 0 {
					t.Error("it was executed")
				}
			}
			if n := len(h.Plugins()); test.name != "another file's" && n != 1 {
				t.Errorf("a signature counts as a plugin: %v", h.Plugins())
			}
		})
	}
}

// What is executed is what was checked, whenever the file changes.
func TestChangeBetweenCheckAndStart(t *testing.T) {
	acme := newSigner(t)
	dir, path := ownCopy(t)
	acme.sign(t, path)
	h, err := New(Options{Directory: dir, Trust: TrustSigned, RuntimeDir: runtimeDir(t), Publishers: map[string]string{"acme": acme.public.String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	c, err := h.Inspect("good")
	if err != nil || c.Status != StatusReady {
		t.Fatalf("%+v, %v", c, err)
	}
	tamper(t, path)
	_, err = h.describe(t.Context(), c)
	mustContain(t, err, "not the one that publisher")
	if err := os.Truncate(path, c.Size); err != nil {
		t.Fatal(err)
	}
	p, err := h.resolve(c)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, []byte("#!/bin/false\n"))
	in, err := h.launcher.launch(t.Context(), p)
	if err != nil {
		t.Fatalf("the copy that was checked: %v", err)
	}
	if err := in.end("the test is over"); err != nil {
		t.Error(err)
	}
}

func TestPublisherSettings(t *testing.T) {
	key := newSigner(t).public.String()
	for says, o := range map[string]Options{
		"there are no publishers":  {Trust: TrustSigned},
		"public key of minisign":   {Publishers: map[string]string{"acme": "RWQ"}},
		`there is no publisher "a`: {Publishers: map[string]string{"b": key}, Plugins: map[string]Settings{"x": {Publisher: "a"}}},
	} {
		o.RuntimeDir = runtimeDir(t)
		_, err := New(o)
		mustContain(t, err, says)
	}
}

// decisions are those of a test.
type decisions struct {
	mu   sync.Mutex
	made map[string]Decision
	err  error
}

func (d *decisions) get(name string) (Decision, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	made, ok := d.made[name]
	return made, ok, d.err
}

func (d *decisions) set(made map[string]Decision, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made, d.err = made, err
}

func TestDecisions(t *testing.T) {
	dir, path := ownCopy(t)
	d := &decisions{}
	p := quickPace
	p.patience = 5 * time.Second
	h, err := newHost(Options{Directory: dir, Trust: TrustAsk, RuntimeDir: runtimeDir(t), Decisions: d.get}, p)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if i := info(t, h, "good"); i.Status != StatusUntrusted || !strings.Contains(i.Reason, "towpath plugins trust good") || i.PID != 0 {
		t.Errorf("%+v", i)
	}

	// Of another digest, and of none that can be read.
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d.set(map[string]Decision{"good": {SHA256: strings.Repeat("ab", 32), At: at}}, nil)
	if c, err := h.Reconsider(t.Context(), "good"); err != nil || c.Status != StatusUntrusted || !strings.Contains(c.Reason, "what was trusted on 2026-01-02") {
		t.Errorf("%+v, %v", c, err)
	}
	d.set(nil, errors.New("the store is full"))
	if c, _ := h.Reconsider(t.Context(), "good"); c.Status != StatusUntrusted || !strings.Contains(c.Reason, "the store is full") {
		t.Errorf("%+v", c)
	}

	c, err := h.Inspect("good")
	if err != nil {
		t.Fatal(err)
	}
	trust := map[string]Decision{"good": {SHA256: c.SHA256, At: at}}
	d.set(trust, nil)
	if c, err := h.Reconsider(t.Context(), "good"); err != nil || c.Status != StatusReady {
		t.Fatalf("%+v, %v", c, err)
	}
	firstHello(t, h)

	// Revoked under a flow: it is cut, and can go on when the plugin is trusted again.
	stream := read(t, h, "Misbehave", "wait")
	firstData(t, stream)
	plugin := openProcess(t, info(t, h, "good").PID)
	stream.Close()
	d.set(nil, nil)
	if _, err := h.Reconsider(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	plugin.mustEnd(t)
	if i := info(t, h, "good"); i.Status != StatusUntrusted || i.PID != 0 || i.Generation != "" {
		t.Errorf("%+v", i)
	}
	s, err := h.Source("Misbehave")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Read(t.Context(), sdk.ReadOpen{Address: address("Misbehave", "hello")})
	if e := sdk.AsError(err); err == nil || e.Code != sdk.Unavailable || !e.Retryable {
		t.Errorf("a plugin that is not trusted any more: %v", err)
	}
	d.set(trust, nil)
	if _, err := h.Reconsider(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	firstHello(t, h)

	// A decision is for the content, not for the name: what replaces the file is not executed, and what was trusted goes on, until that
	// is taken back.
	tamper(t, path)
	if c, err := h.Reconsider(t.Context(), "good"); err != nil || c.Status != StatusUntrusted {
		t.Errorf("%+v, %v", c, err)
	}
	if i := info(t, h, "good"); i.Generation != trust["good"].SHA256 || i.PID == 0 {
		t.Errorf("%+v", i)
	}
	firstHello(t, h)
	d.set(nil, nil)
	if _, err := h.Reconsider(t.Context(), "good"); err != nil || info(t, h, "good").PID != 0 {
		t.Errorf("%+v, %v", info(t, h, "good"), err)
	}
	if _, err := h.Reconsider(t.Context(), "none"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a plugin that is not there: %v", err)
	}
}

func firstHello(t *testing.T, h *Host) {
	t.Helper()
	if b, err := content(read(t, h, "Misbehave", "hello")); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}

func FuzzSignature(f *testing.F) {
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	const signed = "what was signed"
	read := func() *minisign.Reader {
		r := minisign.NewReader(strings.NewReader(signed))
		io.Copy(io.Discard, r)
		return r
	}
	good := read().Sign(private)
	f.Add([]byte(""))
	f.Add(minisign.Sign(private, []byte(signed)))
	path := filepath.Join(f.TempDir(), "p")
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), string(good)) {
			return
		}
		write(t, path+signatureSuffix, text)
		if who, err := (publishers{"acme": public}).signer(text, read()); err == nil {
			t.Errorf("%q counts as signed by %s", text, who)
		}
	})
}

package pluginhost

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

// memory is a Cache.
type memory struct {
	mu      sync.Mutex
	content map[string][]byte
}

func newMemory() *memory { return &memory{content: map[string][]byte{}} }

func (m *memory) Load(_ context.Context, digest string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.content[digest]
	return content, ok, nil
}

func (m *memory) Save(_ context.Context, digest string, content []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.content[digest] = content
	return nil
}

// variant writes a plugin of this name whose content no other has: what follows a program in its file is not loaded.
func variant(t testing.TB, path, mark string) {
	t.Helper()
	content, err := os.ReadFile(misbehave)
	if err != nil {
		t.Fatal(err)
	}
	place(t, path, append(content, mark...))
}

// place puts a file into place as an installer does: under another name first.
func place(t testing.TB, path string, content []byte) {
	t.Helper()
	aside := filepath.Join(filepath.Dir(path), ".aside")
	if err := os.WriteFile(aside, content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
}

// A host whose plugins were all described before launches none at its start, and each with the first call that needs it.
func TestDescribedPluginsAreNotLaunched(t *testing.T) {
	dir, cache := t.TempDir(), newMemory()
	names := []string{"good", "gate"}
	for n := range 48 {
		names = append(names, fmt.Sprintf("good-%d", n))
	}
	for _, name := range names {
		variant(t, filepath.Join(dir, filePrefix+name), name)
	}
	o := Options{Directory: dir, Trust: TrustOff, RuntimeDir: runtimeDir(t), Cache: cache}
	describeAll(t, o)
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := h.launcher.dir.launches.Load(); n != 0 {
		t.Fatalf("%d launches", n)
	}
	for _, i := range h.Plugins() {
		if i.State != StateNotStarted || i.PID != 0 || i.Version != "1.2.3" || len(i.Sources) == 0 {
			t.Errorf("info: %+v", i)
		}
	}
	if err := h.CheckSource(t.Context(), address("Misbehave", "hello")); err != nil {
		t.Fatal(err)
	}
	if content, err := content(read(t, h, "Misbehave-good-7", "hello")); err != nil || string(content) != "hello" {
		t.Errorf("read: %q, %v", content, err)
	}
	if n := h.launcher.dir.launches.Load(); n != 2 {
		t.Errorf("%d launches", n)
	}
	if i := info(t, h, "good-7"); i.State != StateReady || i.Launches != 1 || i.Generation != i.SHA256 {
		t.Errorf("info: %+v", i)
	}
}

// What is kept is not believed of another file, by another format, or for another name; and the operator can have a plugin launched at once.
func TestWhatIsKeptIsNotAlwaysUsed(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  func(t *testing.T, path string, cache *memory)
		start  Start
		policy Trust
		state  State
	}{
		"as it was":       {func(*testing.T, string, *memory) {}, "", TrustOff, StateNotStarted},
		"always":          {func(*testing.T, string, *memory) {}, StartAlways, TrustOff, StateReady},
		"another file":    {func(t *testing.T, path string, _ *memory) { variant(t, path, "other") }, "", TrustOff, StateReady},
		"not allowed now": {func(*testing.T, string, *memory) {}, "", TrustPinned, StateResolved},
		"another format": {func(_ *testing.T, _ string, cache *memory) {
			cache.edit(func(s string) string {
				return strings.Replace(s, fmt.Sprintf(`"format":%d`, describedFormat), `"format":1`, 1)
			})
		}, "", TrustOff, StateReady},
		"not readable": {func(_ *testing.T, _ string, cache *memory) { cache.edit(func(s string) string { return s[1:] }) }, "", TrustOff, StateReady},
		"another name": {func(_ *testing.T, _ string, cache *memory) {
			cache.edit(func(s string) string { return strings.ReplaceAll(s, `"good"`, `"evil"`) })
		}, "", TrustOff, StateReady},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Directory: directory(t), Trust: TrustOff, RuntimeDir: runtimeDir(t), Cache: newMemory()}
			path := filepath.Join(o.Directory, filePrefix+"good")
			variant(t, path, "one")
			describeAll(t, o)
			test.spoil(t, path, o.Cache.(*memory))
			o.Trust = test.policy
			if test.start != "" {
				o.Plugins = map[string]Settings{"good": {Start: test.start}}
			}
			h, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close(t.Context())
			if err := h.Start(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if i := info(t, h, "good"); i.State != test.state {
				t.Errorf("info: %+v", i)
			}
		})
	}
}

// Of two plugins with one type the one that the operator has declared is used, whatever their names are.
func TestDeclaredPluginsComeFirst(t *testing.T) {
	o := Options{Directory: directory(t), Trust: TrustOff, RuntimeDir: runtimeDir(t), Cache: newMemory()}
	for _, name := range []string{"good", "rival"} {
		variant(t, filepath.Join(o.Directory, filePrefix+name), name)
	}
	describeAll(t, o)
	o.Plugins = map[string]Settings{"rival": {}}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	if err := h.Start(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if i := info(t, h, "rival"); i.State != StateNotStarted {
		t.Errorf("info: %+v", i)
	}
	if i := info(t, h, "good"); i.Generation != "" {
		t.Errorf("info: %+v", i)
	}
}

func (m *memory) edit(edit func(string) string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for digest := range maps.Clone(m.content) {
		m.content[digest] = []byte(edit(string(m.content[digest])))
	}
}

// What is kept is an encoding of sdk.Description: when that changes, describedFormat has to.
func TestDescribedFormat(t *testing.T) {
	const shape = "format 2: Description{Name,Version,Documentation,Config,Sources,Sinks,Digests,Permissions} " +
		"Schema{Fields,Open} Field{Name,Kind,Required,Sensitive,Documentation,Default,OneOf,Prefix} " +
		"AddressType{Type,Documentation,Address,Resumable,NonFinite,Records,Provisions,Copies,Proxies}"
	said := []string{fmt.Sprintf("format %d:", describedFormat)}
	for _, typ := range []reflect.Type{reflect.TypeFor[sdk.Description](), reflect.TypeFor[sdk.Schema](), reflect.TypeFor[sdk.Field](),
		reflect.TypeFor[sdk.AddressType]()} {
		var names []string
		for i := range typ.NumField() {
			names = append(names, typ.Field(i).Name)
		}
		said = append(said, fmt.Sprintf("%s{%s}", typ.Name(), strings.Join(names, ",")))
	}
	if got := strings.Join(said, " "); got != shape {
		t.Errorf("raise describedFormat:\n got %s\nwant %s", got, shape)
	}
}

//go:build linux

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// assemble puts the plugins and the one that misbehaves into a folder.
func assemble(t testing.TB, folder string) {
	t.Helper()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range pluginNames {
		file := "towpath-plugin-" + name
		if err := os.Link(filepath.Join(binaries.plugins, file), filepath.Join(folder, file)); err != nil {
			t.Fatal(err)
		}
	}
	if err := goBuild(filepath.Join(folder, "towpath-plugin-gate"), "./misbehave"); err != nil {
		t.Fatal(err)
	}
}

// openGate lets the plugin Gate go on with a flow. what is what it then does: "" for its work, else the error that it fails with.
func (f *flowOf) openGate(what string) {
	f.t.Helper()
	writeFile(f.t, f.gate()+".new", what)
	if err := os.Rename(f.gate()+".new", f.gate()); err != nil {
		f.t.Fatal(err)
	}
}

// gate is the file that the plugin waits for.
func (f *flowOf) gate() string { return filepath.Join(f.host.variable("E2E_GATES"), f.id) }

// newHeldPrepare returns a consumer's flow whose prepare is not done until its gate opens. Its dataset is its own.
func (c *caller) newHeldPrepare() *flowOf {
	c.t.Helper()
	f := c.newFlow("http-push", "", nil)
	f.create["datasetId"] = f.id
	f.openGate("") // for the check of the dataset
	dataset := message{"mode": "auto", "sink": message{"type": "Gate", "properties": message{"gate": f.id}}}
	c.ask(http.MethodPut, "/api/v1/datasets/"+f.id, dataset, &struct{}{})
	if err := os.Remove(f.gate()); err != nil {
		c.t.Fatal(err)
	}
	return f
}

// newHeldStart returns a provider's flow whose start is not done until its gate opens.
func (c *caller) newHeldStart() *flowOf { return c.newFlow("gate-pull", "gated", nil) }

// newHeld returns both of them, begun, by their states.
func (c *caller) newHeld() map[string]*flowOf {
	c.t.Helper()
	return map[string]*flowOf{"PREPARING": c.newHeldPrepare().prepare(), "STARTING": c.newHeldStart().start()}
}

// variable returns what the environment of the host says.
func (h *host) variable(name string) (value string) {
	for _, v := range h.env { // the last one counts
		if after, ok := strings.CutPrefix(v, name+"="); ok {
			value = after
		}
	}
	return value
}

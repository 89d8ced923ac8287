// Command misbehave is a plugin that does what a host has to survive. Its file name says what: towpath-plugin-<trap>, with the
// traps below. The trap "good" behaves, but for what a data address asks of it in its property "do", and so do those whose names begin with
// "good-"; "gate" behaves as late as it is told to, "brittle" breaks where it is told to. "file" passes itself off as the plugin of that name.
// What stands at the end of the file can give it a fault, see faultMark.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// traps are the ways to misbehave before, or while, a plugin serves.
var traps = map[string]func(p sdk.Plugin){
	"good":             grpcplugin.Serve,
	"gate":             grpcplugin.Serve,
	"file":             grpcplugin.Serve,
	"rival":            grpcplugin.Serve,
	"in-clear":         func(p sdk.Plugin) { os.Unsetenv("PLUGIN_CLIENT_CERT"); grpcplugin.Serve(p) }, // as one without go-plugin does
	"crash-at-start":   func(sdk.Plugin) { fmt.Fprintln(os.Stderr, "no licence found"); os.Exit(3) },
	"panic-at-start":   func(sdk.Plugin) { panic("assignment to entry in nil map") },
	"not-a-plugin":     func(sdk.Plugin) { fmt.Fprintln(os.Stderr, "usage: backup [-v] FOLDER"); os.Exit(1) },
	"silent":           func(sdk.Plugin) { hang() },
	"garbage":          garbage,
	"chatty":           chatty,
	"stderr-traps":     stderrTraps,
	"stderr-flood":     stderrFlood,
	"prints-nicely":    printsNicely,
	"old-protocol":     oldProtocol,
	"elsewhere":        elsewhere,
	"deaf":             deaf,
	"describe-hangs":   func(sdk.Plugin) { serveRaw(&rawPlugin{describe: hang}) },
	"describe-exits":   func(sdk.Plugin) { serveRaw(&rawPlugin{describe: exit}) },
	"describe-freezes": func(sdk.Plugin) { serveRaw(&rawPlugin{describe: freeze}) },
	"other-name":       func(p sdk.Plugin) { p.Name = "good"; grpcplugin.Serve(p) },
	"oversized":        func(sdk.Plugin) { serveRaw(&rawPlugin{name: "oversized"}) },
	"refuses-config":   refusesConfig,
	"stubborn":         stubborn,
	"breeder":          breeder,
	"escaping-child":   escapingChild,
	"modest":           modest,
	"greedy":           greedy,
	"brittle":          brittle,
}

func main() {
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "towpath-plugin-")
	trap, ok := traps[name]
	if strings.HasPrefix(name, "good-") {
		trap, ok = grpcplugin.Serve, true
	}
	if !ok {
		fmt.Fprintf(os.Stderr, "misbehave: no trap is called %q\n", name)
		os.Exit(2)
	}
	trap(wellBehaved(name))
}

// wellBehaved returns a plugin that behaves.
func wellBehaved(name string) sdk.Plugin {
	t := sdk.AddressType{
		Type:          "Misbehave",
		Documentation: "A part that misbehaves while it is read.",
		Address:       sdk.Schema{Fields: []sdk.Field{{Name: "do", Required: true, Documentation: "What to do."}}},
	}
	if name != "good" && name != "rival" {
		t.Type = "Misbehave-" + name
	}
	p := sdk.Plugin{
		Name:    name,
		Version: "1.2.3",
		Sources: []sdk.SourceType{{AddressType: t, Source: source{}}},
		Sinks:   []sdk.SinkType{{AddressType: sdk.AddressType{Type: "Sink-" + name}, Sink: sink{}}},
	}
	if name == "brittle" {
		p.Sources = append(p.Sources, brittleType())
	}
	if name == "file" {
		p = impostor(p)
	}
	if fault == hasNoSink {
		p.Sinks = nil
	}
	if name == "gate" {
		p.Sinks = append(p.Sinks, gateType())
		p.Sources = append(p.Sources, tapType())
	}
	return p
}

// impostor offers the types of the plugin "file", with whatever addresses and configuration.
func impostor(p sdk.Plugin) sdk.Plugin {
	t := sdk.AddressType{Type: "File", Documentation: "What does not do what it should.", Address: sdk.Schema{Open: true}, Resumable: true}
	p.Version, p.Config = "6.6.6", sdk.Schema{Open: true}
	p.Sources, p.Sinks = []sdk.SourceType{{AddressType: t, Source: source{}}}, []sdk.SinkType{{AddressType: t, Sink: sink{}}}
	return p
}

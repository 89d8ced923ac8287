package e2e_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/towpath-dataplane/towpath/"

// room is a folder with what the packages in it may import of this module: a folder stands for all that is below it too.
type room struct {
	folder string
	may    []string
	why    string // everything else is forbidden
}

// rooms are all there are. A package belongs to the one with the longest folder.
var rooms = []room{
	{"proto", nil, "the protocol is for plugins in any language"},
	{"sdk", nil, "what a plugin's author implements brings nothing along, gRPC least of all"},
	{"sdk/grpcplugin", []string{"sdk", "proto"}, "the wire serves authors and the host alike"},
	{"sdk/httpfield", []string{"sdk"}, "what a field says does not depend on who sends it"},
	{"sdk/outbound", []string{"sdk"}, "what may be requested does not depend on what it is for"},
	{"sdk/sdktest", []string{"sdk"}, "authors who have written no gRPC need none for their tests"},
	{"plugins", []string{"sdk", "sdk/grpcplugin", "sdk/httpfield", "sdk/outbound"}, "ours can do what anyone's can, and know no more of the host"},
	{"host/flow", []string{"sdk"}, "the engine declares what it needs; HTTP, SQL, tokens and plugins come to it"},
	{"host/signaling", []string{"host/flow", "host/identity", "sdk", "sdk/outbound"}, "a protocol knows the signals, not what they set off"},
	{"host/edc", []string{"host/flow", "sdk"}, "a protocol knows the signals, not what they set off"},
	{"host/publicapi", []string{"host/flow", "host/token", "host/identity", "sdk", "sdk/httpfield"},
		"it reaches the plugins through the sdk, and the store through the engine"},
	{"host/identity", []string{"host/keyfile"}, "who someone is does not depend on what is asked for; requests come guarded"},
	{"host/renewal", []string{"host/flow", "host/identity", "sdk"}, "it implements what the engine declares"},
	{"host/keyfile", nil, "a key is a file, whatever it is for"},
	{"host/token", []string{"host/keyfile"}, "a token is good or not, whatever it is for"},
	{"host/token/tokentest", []string{"host/token"}, "the suite is for every store"},
	{"host/limit", nil, "what is shared out needs no name but that of who shares it"},
	{"host/pipeline", []string{"sdk"}, "bytes from a source to a sink need no flow"},
	{"host/pluginhost", []string{"host/confine", "sdk", "sdk/grpcplugin"}, "processes need no flow"},
	{"host/confine", []string{"sdk"}, "what a process may do does not depend on what it says"},
	{"host/store", []string{"host/flow", "host/token", "host/keyfile", "sdk"}, "it implements what others declare"},
	{"host/store/storetest", []string{"host/flow", "sdk"}, "the suite is for every store"},
	{"host/access", nil, "who may do what is decided by words about a request"},
	{"host/config", []string{"host/access", "sdk", "sdk/httpfield"}, "plain values, and conditions: only the command knows what they are for"},
	{"host/admin", []string{"host/flow", "host/limit", "sdk"}, "operators look through the store"},
	{"host/verify", []string{"sdk", "sdk/grpcplugin", "proto", "host/pluginhost"}, "it knows a plugin by the protocol alone"},
	{"host/verify/broken", []string{"sdk", "sdk/grpcplugin", "proto"}, "to break the rules of the protocol, it has to speak it"},
	{"host/scaffold", nil, "what it writes stands by itself"},
	{"host/schemadoc", []string{"sdk"}, "a schema tells all there is to tell"},
	{"host/cmd/towpath", []string{"host", "sdk", "sdk/grpcplugin", "sdk/outbound"}, "it puts the host together, which knows plugins only as programs"},
	{"e2e", nil, "stories know programs from outside"},
	{"e2e/ledger", []string{"sdk", "sdk/grpcplugin"}, "it is a plugin like anyone's"},
	{"e2e/misbehave", []string{"sdk", "sdk/grpcplugin", "proto"}, "to break the rules of the protocol, it has to speak it"},
}

// forTests are what tests may import besides.
var forTests = []string{"sdk/sdktest", "host/store/storetest", "host/token/tokentest"}

// forTestsOf are what the tests of a room may import besides: the command's benchmarks measure against the bare protocol, the pipeline
// runs on each lane.
var forTestsOf = map[string][]string{"host/cmd/towpath": {"proto"}, "host/scaffold": {"host/verify"},
	"host/verify": {"host/confine"}, "host/pipeline": {"sdk/grpcplugin"}}

// plain are the folders that get by with the standard library.
var plain = []string{"sdk", "sdk/outbound", "host/limit"}

// exact are the folders that stand for themselves alone.
var exact = []string{"sdk", "host/token", "host/store"}

// The arrows between the folders of the repository are those of the table.
func TestArrows(t *testing.T) {
	for file, imports := range importsOfFiles(t) {
		r := roomOf(path.Dir(file))
		if r == nil {
			t.Errorf("%s is in no room", file)
			continue
		}
		may := slices.Concat(r.may, []string{path.Dir(file)})
		if strings.HasSuffix(file, "_test.go") {
			may = slices.Concat(may, forTests, forTestsOf[r.folder])
		}
		for _, imported := range imports {
			ours, ok := strings.CutPrefix(imported, module)
			if ok && !allowed(may, ours) {
				t.Errorf("%s must not import %s: %s", file, ours, r.why)
			}
			if !ok && slices.Contains(plain, r.folder) && strings.Contains(imported, ".") && !strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s must not import %s: %s gets by with the standard library", file, imported, r.folder)
			}
		}
	}
}

func roomOf(folder string) (found *room) {
	for i, r := range rooms {
		if below(folder, r.folder) && (found == nil || len(r.folder) > len(found.folder)) {
			found = &rooms[i]
		}
	}
	return found
}

func allowed(may []string, pkg string) bool {
	return slices.ContainsFunc(may, func(folder string) bool {
		return pkg == folder || !slices.Contains(exact, folder) && below(pkg, folder)
	})
}

func below(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

// importsOfFiles lists the imports of all Go files of the repository, for whatever system they are, by their paths in it.
func importsOfFiles(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && strings.HasPrefix(name, "."):
			if name != "." {
				return fs.SkipDir
			}
			return nil
		case path.Ext(name) != ".go":
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		all[name] = nil
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			all[name] = append(all[name], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The top level says where things are. Nothing else belongs there, but for files whose names begin with a dot.
func TestTopLevel(t *testing.T) {
	want := []string{"LICENSE", "Makefile", "README.md", "configs", "e2e", "go.mod", "go.sum", "host", "plugins", "proto", "sdk"}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the top level is %v, not %v", got, want)
	}
}

// A package's name says what it is about.
func TestNamesOfPackages(t *testing.T) {
	for file := range importsOfFiles(t) {
		switch name := path.Base(path.Dir(file)); name {
		case "util", "utils", "common", "helper", "helpers", "manager", "base", "types":
			t.Errorf("%s: a package called %s is about anything", file, name)
		}
	}
}

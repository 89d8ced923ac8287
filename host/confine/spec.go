package confine

import (
	"encoding/json"
	"fmt"
	"syscall"
)

// Argument is the first argument of a program that is to call Run.
const Argument = "confined-plugin"

// spec is what the program that Run is has to do. It is handed over as its second argument.
type spec struct {
	Image  string   // to execute
	Args   []string // for it
	Parent int      // process to die with

	Cgroup    string `json:",omitempty"` // file to join the group by
	Data      uint64 `json:",omitempty"` // RLIMIT_DATA
	OpenFiles uint64 `json:",omitempty"` // RLIMIT_NOFILE

	// Files and Net are the kinds of access that Landlock refuses but where Paths and Ports allow them; Scopes what it refuses altogether.
	Files  uint64     `json:",omitempty"`
	Net    uint64     `json:",omitempty"`
	Scopes uint64     `json:",omitempty"`
	Paths  []pathRule `json:",omitempty"`
	Ports  []uint16   `json:",omitempty"`

	Seccomp   bool `json:",omitempty"` // no way out of the process group, and no system calls that go round others
	Notify    bool `json:",omitempty"` // connections are the host's to make
	Datagrams bool `json:",omitempty"` // there may be UDP sockets
}

// pathRule allows access to a file, or to a folder and all that is in it.
type pathRule struct {
	Path   string
	Access uint64
	// Optional: it does not matter if there is none.
	Optional bool `json:",omitempty"`
}

// failure is what Run tells the host if it cannot execute the plugin.
type failure struct {
	Doing string
	Errno syscall.Errno `json:",omitempty"`
	Text  string        `json:",omitempty"` // if there is no Errno
}

func (f failure) err() error {
	if f.Errno != 0 {
		return fmt.Errorf("confine: %s: %w", f.Doing, f.Errno)
	}
	return fmt.Errorf("confine: %s: %s", f.Doing, f.Text)
}

func (s spec) encode() string {
	encoded, _ := json.Marshal(s) // of strings and numbers only
	return string(encoded)
}

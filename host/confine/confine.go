// Package confine keeps a plugin's process to what its plugin needs and its operator allows, with what the kernel offers, and says what
// of that is in force on this machine and what is not.
//
// A confined process is begun as the host's own program, which gives up what the plugin is not to have and then executes it: see Run. A
// plugin for which nobody has said anything is not confined.
//
// The package knows nothing of plugins' protocols, lives and trust.
package confine

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Allowed is what an operator allows. A nil list, and a limit of 0, say nothing.
type Allowed struct {
	Limits
	Environment []string
	Read        []string
	Write       []string
	Connect     []string
}

// Limits are on a process and its children. 0: none.
type Limits struct {
	Memory    int64   // bytes
	CPU       float64 // processors
	OpenFiles int     // of each process
	Processes int     // threads count
}

// Policy is what is to hold for one plugin: what it declares, capped by what the operator allows.
type Policy struct {
	declared *sdk.Permissions
	allowed  Allowed

	Limits
	// nil: not confined.
	read    []string
	write   []string
	connect []sdk.ConnectRule
	// environment are the variables that the plugin reads and may have.
	environment []string
}

// NewPolicy combines what a plugin declares, nil if it is not known or the plugin does not say, with what the operator allows. The error
// says which of them is not well formed.
func NewPolicy(declared *sdk.Permissions, allowed Allowed) (Policy, error) {
	p := Policy{declared: declared, allowed: allowed, Limits: allowed.Limits}
	allows := sdk.Permissions{Environment: allowed.Environment, Read: allowed.Read, Write: allowed.Write, Connect: allowed.Connect,
		Memory: allowed.Memory, OpenFiles: allowed.OpenFiles}
	if err := allows.Check(); err != nil {
		return p, err
	}
	d := sdk.Permissions{Read: allowed.Read, Write: allowed.Write, Connect: allowed.Connect}
	if declared != nil {
		if err := declared.Check(); err != nil {
			return p, err
		}
		d = *declared
		d.Read, d.Write, d.Connect = notNil(d.Read), notNil(d.Write), notNil(d.Connect)
	}
	p.Memory, p.OpenFiles = lower(p.Memory, d.Memory), lower(p.OpenFiles, d.OpenFiles)
	p.environment = common(d.Environment, allowed.Environment)
	p.read, p.write = within(d.Read, allowed.Read), within(d.Write, allowed.Write)
	p.connect = intersect(rules(d.Connect), rules(allowed.Connect))
	return p, nil
}

// Environment are the variables of the host that the plugin asks for and the operator allows.
func (p Policy) Environment() []string { return p.environment }

// Equal reports whether two policies come to the same for a process.
func (p Policy) Equal(o Policy) bool {
	same := func(a, b []string) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }
	return p.Limits == o.Limits && same(p.read, o.read) && same(p.write, o.write) && slices.Equal(p.environment, o.environment) &&
		(p.connect == nil) == (o.connect == nil) && slices.Equal(p.connect, o.connect)
}

// confines reports whether a process has to be begun in another way than any.
func (p Policy) confines() bool {
	return p.Limits != (Limits{}) || p.read != nil || p.write != nil || p.connect != nil
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// lower is the lower of two limits, of which 0 is none.
func lower[T int | int64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// within is what two lists of paths have in common. nil has everything.
func within(a, b []string) []string {
	if b == nil {
		return a
	}
	if a == nil {
		return b
	}
	out := []string{}
	for _, x := range a {
		for _, y := range b {
			switch {
			case below(x, y):
				out = append(out, x)
			case below(y, x):
				out = append(out, y)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// below reports whether path is root, or lies in it.
func below(path, root string) bool {
	return path == root || strings.HasPrefix(path, strings.TrimSuffix(root, string(filepath.Separator))+string(filepath.Separator))
}

// rules reads what Check has found good.
func rules(list []string) []sdk.ConnectRule {
	if list == nil {
		return nil
	}
	out := make([]sdk.ConnectRule, len(list))
	for i, s := range list {
		out[i], _ = sdk.ParseConnectRule(s)
	}
	return out
}

// intersect is what two lists of rules have in common. nil has everything.
func intersect(a, b []sdk.ConnectRule) []sdk.ConnectRule {
	if b == nil {
		return a
	}
	if a == nil {
		return b
	}
	out := []sdk.ConnectRule{}
	for _, x := range a {
		for _, y := range b {
			if r, ok := x.Intersect(y); ok && !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}

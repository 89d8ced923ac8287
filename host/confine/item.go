package confine

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Item is one thing that a plugin can be kept to.
type Item struct {
	Name string
	// Declared is what the plugin says it needs, Allowed what the operator allows; "" if they do not say.
	Declared string
	Allowed  string
	// Confined is what the plugin is to be kept to; "" if nobody says anything.
	Confined string
	// InForce says whether this machine sees to it.
	InForce bool
	// How says by what, how far, or why not.
	How string
}

// Items says of each thing what is declared, allowed, and in force on this machine. A plugin that is not confined has none in force.
func (c *Confiner) Items(p Policy) []Item {
	d := sdk.Permissions{}
	if p.declared != nil {
		d = *p.declared
		d.Environment, d.Read, d.Write, d.Connect = notNil(d.Environment), notNil(d.Read), notNil(d.Write), notNil(d.Connect)
	}
	a := p.allowed
	var connect []string
	if p.connect != nil {
		connect = []string{}
		for _, r := range p.connect {
			connect = append(connect, r.String())
		}
	}
	items := []Item{
		{Name: "environment", Declared: listed(d.Environment), Allowed: listed(a.Environment), Confined: listed(notNil(p.environment)),
			InForce: true, How: "the plugin gets these variables besides the usual and those of environment and pass_environment"},
		{Name: "read", Declared: listed(d.Read), Allowed: listed(a.Read), Confined: listed(p.read)},
		{Name: "write", Declared: listed(d.Write), Allowed: listed(a.Write), Confined: listed(p.write)},
		{Name: "connect", Declared: listed(d.Connect), Allowed: listed(a.Connect), Confined: listed(connect)},
		{Name: "memory", Declared: size(d.Memory), Allowed: size(a.Memory), Confined: size(p.Memory)},
		{Name: "cpu", Allowed: number(a.CPU), Confined: number(p.CPU)},
		{Name: "open files", Declared: number(float64(d.OpenFiles)), Allowed: number(float64(a.OpenFiles)), Confined: number(float64(p.OpenFiles))},
		{Name: "processes", Allowed: number(float64(a.Processes)), Confined: number(float64(p.Processes))},
		{Name: "children"}, {Name: "privileges"},
	}
	if p.confines() {
		items[8].Confined, items[9].Confined = "end with the plugin", "none to gain"
	}
	for i := range items {
		switch item := &items[i]; {
		case item.Confined == "":
			item.How = "not confined: neither the plugin nor the operator says anything"
		case item.How == "":
			item.InForce, item.How = c.machine.enforces(item.Name, p)
		}
	}
	return items
}

// listed shows a list; nil is nothing said.
func listed(list []string) string {
	switch {
	case list == nil:
		return ""
	case len(list) == 0:
		return "none"
	}
	return strings.Join(list, ", ")
}

func size(n int64) string {
	if n == 0 {
		return ""
	}
	for shift, unit := range []string{"bytes", "KiB", "MiB", "GiB", "TiB"} {
		if shift == 4 || n>>(10*shift)%1024 != 0 {
			return fmt.Sprintf("%d %s", n>>(10*shift), unit)
		}
	}
	return ""
}

func number(n float64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatFloat(n, 'f', -1, 64)
}

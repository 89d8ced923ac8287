package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"aead.dev/minisign"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Publisher is a publisher block in plugins: whose signatures count.
type Publisher struct {
	Name string
	Key  string // minisign public key
}

// PluginLimits is the limits block of a plugin. 0: none.
type PluginLimits struct {
	Memory    int64   // bytes
	CPU       float64 // processors
	OpenFiles int
	Processes int // threads count
}

// Permissions is the permissions block of a plugin. nil: the operator does not say.
type Permissions struct {
	Environment []string
	Read        []string
	Write       []string
	Connect     []string
}

func (l *loader) publishers(f fields) (all []Publisher) {
	for _, b := range f.blocks {
		p := Publisher{Name: l.label(b, checkID)}
		if l.again(b, "publisher "+p.Name, fmt.Sprintf("publisher %q", p.Name)) {
			continue
		}
		set(l.open(b, publisherSchema), "key", &p.Key, publisherKey)
		all = append(all, p)
	}
	return all
}

func (l *loader) confinement(f fields, p *Plugin) {
	if b := f.single("limits"); b != nil {
		f := l.open(b, pluginLimitsSchema)
		set(f, "memory", &p.Limits.Memory, pluginMemory)
		set(f, "cpu", &p.Limits.CPU, processors)
		set(f, "open_files", &p.Limits.OpenFiles, count)
		set(f, "processes", &p.Limits.Processes, count)
	}
	if b := f.single("permissions"); b != nil {
		f := l.open(b, permissionsSchema)
		set(f, "environment", &p.Permissions.Environment, variables)
		set(f, "read", &p.Permissions.Read, f.paths)
		set(f, "write", &p.Permissions.Write, f.paths)
		set(f, "connect", &p.Permissions.Connect, connectRules)
	}
}

// finishTrust checks that there is what the policy of trust needs.
func (l *loader) finishTrust() {
	plugins := l.config.Plugins
	var names []string
	for _, p := range plugins.Publishers {
		names = append(names, p.Name)
	}
	if plugins.Trust == TrustSigned && len(names) == 0 {
		l.report(plugins.Range, "Missing publisher", `plugins has trust = %q, so it needs a publisher "name" { key = "…" }.`, TrustSigned)
	}
	for _, p := range plugins.Declared {
		switch {
		case p.Publisher != "" && !slices.Contains(names, p.Publisher):
			l.report(p.Range, "Unknown publisher", "plugins has no publisher %q.%s", p.Publisher, didYouMean(p.Publisher, names))
		case plugins.Trust == TrustPinned && p.SHA256 == "" && p.Address == "":
			l.report(p.Range, "Missing pin", "plugins has trust = %q, so the plugin needs its sha256.", TrustPinned)
		}
	}
}

// publisherKey reads a minisign public key.
func publisherKey(v cty.Value) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	var key minisign.PublicKey
	if key.UnmarshalText([]byte(s)) != nil {
		return "", errors.New("it is not the public key of minisign, which begins with RW and has 56 letters")
	}
	return key.String(), nil
}

// leastMemory is what a plugin in Go needs to start.
const leastMemory = 64 << 20

func pluginMemory(v cty.Value) (int64, error) {
	n, err := size(v)
	if err == nil && n < leastMemory {
		err = errors.New("less than 64MiB is not enough for a plugin to start")
	}
	return n, err
}

// processors reads a number of processors, which may be a part of one.
func processors(v cty.Value) (float64, error) {
	s, err := text(v)
	if err != nil {
		return 0, errors.New("it is not a number")
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 0.01 && n <= 10_000) {
		return 0, fmt.Errorf("%q is not a number of processors such as 0.5 or 2", s)
	}
	return n, nil
}

// paths reads a list of files and folders, relative to the configuration's own.
func (f fields) paths(v cty.Value) ([]string, error) {
	list, err := texts(v)
	if err != nil {
		return nil, err
	}
	for i, path := range list {
		if path == "" {
			return nil, errors.New("an element is empty")
		}
		if list[i], err = filepath.Abs(resolve(filepath.Dir(f.header.Filename), path)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// connectRules reads a list of addresses to connect to.
func connectRules(v cty.Value) ([]string, error) {
	list, err := texts(v)
	for _, rule := range list {
		if _, err := sdk.ParseConnectRule(rule); err != nil {
			return nil, err
		}
	}
	return list, err
}

var (
	publisherSchema    = &hcl.BodySchema{Attributes: required("key")}
	pluginLimitsSchema = &hcl.BodySchema{Attributes: optional("memory", "cpu", "open_files", "processes")}
	permissionsSchema  = &hcl.BodySchema{Attributes: optional("environment", "read", "write", "connect")}
)

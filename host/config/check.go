package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Check holds the configuration against the plugins that may run. Those with a plugin block have to be among them; one without is used
// if it needs no configuration. When Check returns nil, PluginConfig has the configuration of each plugin that is used. The error is
// an *Error. Check is not safe for concurrent use.
func (c *Config) Check(plugins []sdk.Description) error {
	_, err := c.check(&checker{}, plugins)
	return err
}

// CheckSome is Check for a host whose plugins come and go: absent are some that may be used later. What only they could make good is not an
// error, and neither is that a plugin without a block offers what another does; both are told in later, which is nil or an *Error as well.
func (c *Config) CheckSome(plugins []sdk.Description, absent ...string) (later, err error) {
	return c.check(&checker{absent: absent, changing: true}, plugins)
}

func (c *Config) check(k *checker, plugins []sdk.Description) (later, err error) {
	k.config, k.found, k.configs = c, map[string]sdk.Description{}, map[string][]byte{}
	for _, p := range plugins {
		k.found[p.Name] = p
	}
	k.plugins()
	for i := range c.Datasets {
		k.address(&c.Datasets[i].Source, k.sources)
		k.address(&c.Datasets[i].Sink, k.sinks)
		k.address(&c.Datasets[i].Response, k.sinks)
	}
	for _, p := range c.Profiles {
		k.profile(p)
	}
	if err := newError(k.later, c.files); err != nil {
		later = err
	}
	if err := newError(k.diags, c.files); err != nil {
		return later, err
	}
	c.pluginConfigs = k.configs
	return later, nil
}

// ConfigurePlugin is Check for one plugin that came after Check: it returns what PluginConfig would. It is safe for concurrent use.
func (c *Config) ConfigurePlugin(d sdk.Description) ([]byte, error) {
	block, declared := c.configBlocks[d.Name]
	encoded, diags := decodeConfig(block, d.Config)
	switch {
	case len(diags) > 0 && !declared:
		return nil, fmt.Errorf("it needs a plugin block %q with its configuration", d.Name)
	case len(diags) > 0:
		return nil, newError(diags, c.files)
	}
	return encoded, nil
}

// checker checks one Config.
type checker struct {
	config  *Config
	found   map[string]sdk.Description // by name of the plugin
	configs map[string][]byte
	sources offers
	sinks   offers
	absent  []string // plugins that are not found, and may come
	// changing says that plugins come and go.
	changing bool
	diags    hcl.Diagnostics
	later    hcl.Diagnostics // what that could make good
}

func (k *checker) report(at hcl.Range, summary, format string, args ...any) {
	k.diags = append(k.diags, problem(at, summary, format, args...))
}

// lacks reports that something is not there, which is no error if it can come with a plugin that is absent.
func (k *checker) lacks(at hcl.Range, summary, format string, args ...any) {
	to := &k.diags
	if len(k.absent) > 0 {
		to = &k.later
	}
	*to = append(*to, problem(at, summary, format, args...))
}

// plugins decodes the config of each plugin and gathers what the plugins offer.
func (k *checker) plugins() {
	k.sources, k.sinks = newOffers("reads"), newOffers("writes")
	for _, p := range k.config.Plugins.Declared {
		k.declared(p)
	}
	for _, name := range slices.Sorted(maps.Keys(k.found)) {
		if _, declared := k.config.configBlocks[name]; !declared {
			k.undeclared(k.found[name])
		}
	}
}

func (k *checker) declared(p Plugin) {
	d, ok := k.found[p.Name]
	if !ok && p.Address != "" {
		report := k.report
		if slices.Contains(k.absent, p.Name) {
			report = k.lacks
		}
		report(p.Range, "Plugin not reached", "The plugin %q was not reached at %s.", p.Name, p.Address)
		return
	}
	if !ok && slices.Contains(k.absent, p.Name) {
		k.lacks(p.Range, "Plugin not usable", "The plugin %q in %s cannot be used at present.", p.Name, k.config.Plugins.Directory)
		return
	}
	if !ok {
		names := slices.Collect(maps.Keys(k.found))
		k.report(p.Range, "Plugin not found", "There is no plugin %q in %s. Plugins there: %s.%s",
			p.Name, k.config.Plugins.Directory, list(names), didYouMean(p.Name, names))
		return
	}
	encoded, diags := decodeConfig(k.config.configBlocks[p.Name], d.Config)
	k.diags = append(k.diags, diags...)
	copies := func(t sdk.AddressType) bool { return t.Copies }
	if p.ServerSideCopy && !(slices.ContainsFunc(d.Sources, copies) && slices.ContainsFunc(d.Sinks, copies)) {
		k.report(p.Range, "Unsuitable plugin setting", "server_side_copy: the plugin %q reads and writes no store that copies by itself.", p.Name)
	}
	k.use(d, encoded, p.Range)
}

// undeclared uses a plugin without a block, unless its configuration has to be given.
func (k *checker) undeclared(d sdk.Description) {
	encoded, diags := decodeConfig(configBlock{}, d.Config)
	if len(diags) > 0 {
		k.sources.note(d.Name, d.Sources)
		k.sinks.note(d.Name, d.Sinks)
		return
	}
	k.use(d, encoded, k.config.Plugins.Range)
}

func (k *checker) use(d sdk.Description, encoded []byte, at hcl.Range) {
	k.configs[d.Name] = encoded
	k.offer(k.sources, d.Name, d.Sources, at)
	k.offer(k.sinks, d.Name, d.Sinks, at)
}

// offer adds what a plugin offers.
func (k *checker) offer(to offers, plugin string, types []sdk.AddressType, at hcl.Range) {
	for _, t := range types {
		if _, taken := to.types[t.Type]; taken {
			d := problem(at, "Type offered twice", "The plugins %q and %q both offer the type %q. Only one of them can be used.",
				to.by[t.Type], plugin, t.Type)
			if _, declared := k.config.configBlocks[plugin]; k.changing && !declared {
				k.later = append(k.later, d)
			} else {
				k.diags = append(k.diags, d)
			}
			continue
		}
		to.types[t.Type] = t
		to.by[t.Type] = plugin
	}
}

// offers are the types of address that can be read, or those that can be written.
type offers struct {
	verb  string                     // what a plugin does with them: "reads" or "writes"
	types map[string]sdk.AddressType // those of plugins that are used
	by    map[string]string          // the plugin by type, also of plugins that are not used
}

func newOffers(verb string) offers {
	return offers{verb: verb, types: map[string]sdk.AddressType{}, by: map[string]string{}}
}

// note remembers which plugin would offer a type if it were used.
func (o offers) note(plugin string, types []sdk.AddressType) {
	for _, t := range types {
		if _, taken := o.by[t.Type]; !taken {
			o.by[t.Type] = plugin
		}
	}
}

// lookup finds a type. If no plugin offers it, missing says so, and what could be done.
func (o offers) lookup(typ string) (t sdk.AddressType, missing string) {
	t, ok := o.types[typ]
	if ok {
		return t, ""
	}
	if plugin, ok := o.by[typ]; ok {
		return t, fmt.Sprintf("The plugin %q %s %q, but it is not used: it needs a plugin block with its configuration.", plugin, o.verb, typ)
	}
	names := slices.Collect(maps.Keys(o.types))
	return t, fmt.Sprintf("No plugin %s %q. There are: %s.%s", o.verb, typ, list(names), didYouMean(typ, names))
}

// address checks a dataset's source or sink, if there is one.
func (k *checker) address(a *Address, among offers) {
	if a.IsZero() {
		return
	}
	typ, missing := among.lookup(a.Type)
	if missing != "" {
		k.lacks(a.Range, "Unknown type", "%s", missing)
		return
	}
	for name := range a.Properties {
		if f, ok := typ.Address.Lookup(name); ok && f.Sensitive {
			a.sensitive[name] = true
		}
	}
	for _, e := range typ.Address.Check(a.DataAddress) {
		d := problem(a.at(e.Field), "Unsuitable address", "%s", a.explain(e, typ.Address))
		if len(a.sensitive) > 0 {
			d.Extra = hideSource
		}
		k.diags = append(k.diags, d)
	}
}

// explain turns what a schema says into a sentence without a secret, with a guess at what was meant.
func (a *Address) explain(e sdk.FieldError, schema sdk.Schema) string {
	f, known := schema.Lookup(e.Field)
	if !known {
		return e.String() + "." + didYouMean(e.Field, fieldNames(schema))
	}
	if value, set := a.Properties[e.Field]; set && a.sensitive[e.Field] {
		f.Sensitive = true
		if err := f.CheckValue(value); err != nil {
			e.Message = err.Error()
		}
	}
	return e.String() + "."
}

func fieldNames(s sdk.Schema) []string {
	names := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		names[i] = f.Name
	}
	return names
}

// profile checks that the types a profile names can be used in its direction: what a counterparty's address names is written to in a
// push, and read in a pull.
func (k *checker) profile(p Profile) {
	among := k.sinks
	if p.Direction == Pull {
		among = k.sources
	}
	for _, typ := range slices.Sorted(maps.Keys(p.typeRanges)) {
		if typ == "" {
			continue
		}
		if _, missing := among.lookup(typ); missing != "" {
			k.lacks(p.typeRanges[typ], "Unknown type", "%s", missing)
		}
	}
	if p.Provision != "" {
		k.provision(p.Provision, p.provisionAt)
	}
	if r := p.Response; r != nil && r.Provision != "" && k.provision(r.Provision, r.provisionAt) {
		if _, missing := k.sources.lookup(r.Provision); missing != "" {
			k.lacks(r.provisionAt, "Unknown type", "%s", missing)
		}
	}
}

// provision checks that the type which is to make addresses does, and reports whether it is so.
func (k *checker) provision(typ string, at hcl.Range) bool {
	t, missing := k.sinks.lookup(typ)
	switch {
	case missing != "":
		k.lacks(at, "Unknown type", "%s", missing)
	case !t.Provisions:
		k.report(at, "Unsuitable type", "The plugin %q writes %q, but makes no addresses for counterparties.",
			k.sinks.by[t.Type], t.Type)
	}
	return t.Provisions
}

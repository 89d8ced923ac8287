package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Load reads the configuration in a file, or in the *.hcl files of a directory, merged in the order of their names. The error is an
// *Error.
func Load(path string) (*Config, error) {
	src, diags := readSource(path)
	l := &loader{decoder: newDecoder(src.names), source: src, config: defaults(), seen: map[string]hcl.Range{}}
	l.diags = diags
	l.config.files, l.config.configBlocks = src.files, map[string]configBlock{}
	l.load()
	if err := newError(l.diags, src.files); err != nil {
		return nil, err
	}
	return l.config, nil
}

// loader fills a Config.
type loader struct {
	*decoder
	source *source
	config *Config
	seen   map[string]hcl.Range // blocks that may be there once, by what makes them the same

	secured []securedURL
}

func (l *loader) load() {
	files := make([]*hcl.File, len(l.source.names))
	for i, name := range l.source.names {
		files[i] = l.source.files[name]
	}
	content, diags := hcl.MergeFiles(files).Content(rootSchema)
	l.diags = append(l.diags, diags...)
	for _, b := range content.Blocks {
		if !l.repeated(b) {
			l.block(b)
		}
	}
	l.finish()
}

// repeated reports whether a block is there that may not be there twice, and says so.
func (l *loader) repeated(b *hcl.Block) bool {
	switch b.Type {
	case "dataset":
		return false // what makes two the same is not in the labels alone
	case "listen", "plugin", "profile", "participant_context", "control_plane":
		what := fmt.Sprintf("%s %q", b.Type, b.Labels[0])
		return l.again(b, what, what)
	default:
		return l.again(b, b.Type, b.Type+" block")
	}
}

// again reports whether something was seen before, and says so.
func (l *loader) again(b *hcl.Block, key, what string) bool {
	first, seen := l.seen[key]
	if seen {
		l.report(b.DefRange, "Duplicate block", "There is already %s at %s.", article(what), place(first))
	} else {
		l.seen[key] = b.DefRange
	}
	return seen
}

func (l *loader) block(b *hcl.Block) {
	c := l.config
	switch b.Type {
	case "dataplane":
		l.dataPlane(b, &c.DataPlane)
	case "listen":
		l.listen(b)
	case "store":
		l.store(b, &c.Store)
	case "plugins":
		l.plugins(b, &c.Plugins)
	case "plugin":
		c.Plugins.Declared = append(c.Plugins.Declared, l.plugin(b))
	case "profile":
		c.Profiles = append(c.Profiles, l.profile(b))
	case "dataset":
		if d := l.dataset(b); !l.again(b, fmt.Sprintf("dataset %q %q", d.ParticipantContext, d.ID), d.what()) {
			c.Datasets = append(c.Datasets, d)
		}
	case "participant_context":
		c.ParticipantContexts = append(c.ParticipantContexts, l.participantContext(b))
	case "control_plane":
		c.ControlPlanes = append(c.ControlPlanes, l.controlPlane(b))
	case "signaling":
		l.signaling(b, &c.SignalingSettings)
	case "outbound":
		l.outbound(b, &c.Outbound)
	case "token":
		l.token(b, &c.Token)
	case "transfer":
		l.transfer(b, &c.Transfer)
	case "limits":
		l.limits(b, &c.Limits)
	case "access":
		c.Access = l.access(b)
	case "telemetry":
		l.telemetry(b, &c.Telemetry)
	}
}

// label returns the block's label, which check must accept.
func (l *loader) label(b *hcl.Block, check func(string) error) string {
	if err := check(b.Labels[0]); err != nil {
		l.report(b.LabelRanges[0], "Unsuitable label", "%s: %v.", b.Type, err)
	}
	return b.Labels[0]
}

func (l *loader) dataPlane(b *hcl.Block, into *DataPlane) {
	f := l.open(b, dataPlaneSchema)
	into.ID = l.label(b, checkID)
	if !set(f, "data_dir", &into.DataDir, f.path) {
		into.DataDir = l.beside(b, defaultDataDir)
	}
}

// beside returns the absolute path of a name in the folder of the block's file.
func (l *loader) beside(b *hcl.Block, name string) string {
	abs, err := filepath.Abs(filepath.Join(filepath.Dir(b.DefRange.Filename), name))
	if err != nil {
		l.report(b.DefRange, "No working directory", "%v.", err)
	}
	return abs
}

func (l *loader) listen(b *hcl.Block) {
	listeners := map[string]*Listener{"signaling": &l.config.Signaling, "public": &l.config.Public, "admin": &l.config.Admin}
	into, ok := listeners[b.Labels[0]]
	if !ok {
		names := []string{"signaling", "public", "admin"}
		l.report(b.LabelRanges[0], "Unknown server", "It is signaling, public or admin.%s", didYouMean(b.Labels[0], names))
		return
	}
	f := l.open(b, listenSchemas[b.Labels[0]])
	into.Range = b.DefRange
	set(f, "address", &into.Address, hostPort)
	if b.Labels[0] == "signaling" {
		set(f, "url", &into.URL, hostURL)
	} else {
		set(f, "url", &into.URL, baseURL)
	}
	set(f, "base_path", &into.BasePath, basePath)
	setSecret(f, "token", &into.Token, bearerToken)
	set(f, "proxy_headers", &into.ProxyHeaders, headerFields)
	if t := f.single("tls"); t != nil {
		into.TLS = l.tls(t)
	}
}

func (l *loader) store(b *hcl.Block, into *Store) {
	switch kind := b.Labels[0]; kind {
	case "sqlite":
		f := l.open(b, storeSchema)
		set(f, "path", &into.Path, f.path)
	case "postgres":
		l.report(b.LabelRanges[0], "Not in this version", "The store \"postgres\" is not available in this version. Use \"sqlite\".")
	default:
		l.report(b.LabelRanges[0], "Unknown store", "It is \"sqlite\".%s", didYouMean(kind, []string{"sqlite"}))
	}
}

func (l *loader) plugins(b *hcl.Block, into *Plugins) {
	f := l.open(b, pluginsSchema)
	into.Range = b.DefRange
	set(f, "directory", &into.Directory, f.path)
	set(f, "trust", &into.Trust, oneOf(TrustPinned, TrustSigned, TrustDirectory, TrustAsk, TrustOff))
	set(f, "watch", &into.Watch, boolean)
	into.Publishers = l.publishers(f)
}

func (l *loader) plugin(b *hcl.Block) Plugin {
	f := l.open(b, pluginSchema)
	p := pluginDefaults()
	p.Name, p.Range = l.label(b, checkPluginName), b.DefRange
	set(f, "binary", &p.Binary, fileName)
	set(f, "sha256", &p.SHA256, sha256Hex)
	set(f, "publisher", &p.Publisher, nonEmpty)
	set(f, "environment", &p.Environment, environment)
	if set(f, "pass_environment", &p.PassEnvironment, variables) {
		for _, name := range p.PassEnvironment {
			if _, both := p.Environment[name]; both {
				l.report(f.at("pass_environment"), "Variable set twice", "%q is in environment as well.", name)
			}
		}
	}
	set(f, "start_timeout", &p.StartTimeout, duration)
	p.DrainBound = set(f, "drain_timeout", &p.DrainTimeout, duration)
	set(f, "stop_timeout", &p.StopTimeout, duration)
	set(f, "handover_timeout", &p.HandoverTimeout, duration)
	set(f, "lane", &p.Lane, oneOf(LaneAuto, LaneGRPC))
	set(f, "lane_buffer", &p.LaneBuffer, laneBuffer)
	set(f, "mtls", &p.MTLS, oneOf(MTLSAuto, MTLSOn, MTLSOff))
	set(f, "server_side_copy", &p.ServerSideCopy, boolean)
	set(f, "start", &p.Start, oneOf(StartOnDemand, StartAlways))
	set(f, "isolation", &p.Isolation, oneOf(IsolationShared, IsolationFlow, IsolationParticipant))
	set(f, "max_processes", &p.MaxProcesses, count)
	set(f, "quarantine_after", &p.QuarantineAfter, countOrNone)
	l.confinement(f, &p)
	l.dialled(f, &p)
	l.config.configBlocks[p.Name] = l.configBlock(f)
	return p
}

func (l *loader) configBlock(f fields) configBlock {
	if b := f.single("config"); b != nil {
		return configBlock{values: l.values(b), at: b.DefRange}
	}
	return configBlock{at: f.header}
}

// values reads a block whose attributes only a plugin knows.
func (l *loader) values(b *hcl.Block) map[string]value {
	attrs, diags := b.Body.JustAttributes()
	l.diags = append(l.diags, diags...)
	out := map[string]value{}
	for name, attr := range attrs {
		if v, ok := l.eval(attr); ok {
			out[name] = v
		}
	}
	return out
}

func (l *loader) profile(b *hcl.Block) Profile {
	f := l.open(b, profileSchema)
	name := l.label(b, checkID)
	p := Profile{Name: name, Direction: directionOf(name), EndpointType: name, Mode: ModeAuto, Range: b.DefRange}
	l.direction(f, &p)
	set(f, "endpoint_type", &p.EndpointType, nonEmpty)
	types := set(f, "types", &p.Types, pluginTypes)
	if set(f, "type", &p.Type, nonEmpty) && types {
		l.report(f.at("types"), "Attributes exclude each other", "type is the plugin's type whatever the address says, so types has no effect.")
	}
	if !types && p.Type == "" && strings.HasPrefix(name, httpProfiles) {
		p.Type = httpType
	}
	p.typeRanges = map[string]hcl.Range{p.Type: f.at("type")}
	if !types && p.Type == "" {
		p.Type = typeOf(name) // which need not be there, as long as no counterparty's address is of it
	}
	for endpointType, typ := range p.Types {
		p.typeRanges[typ] = f.elementAt("types", endpointType)
	}
	set(f, "allow_http", &p.AllowHTTP, boolean)
	set(f, "mode", &p.Mode, oneOf(ModeAuto, ModeSync, ModeAsync))
	set(f, "provision", &p.Provision, nonEmpty)
	set(f, "dataset_in_message", &p.DatasetInMessage, boolean)
	p.provisionAt = f.at("provision")
	if p.Provision != "" && p.Direction == Push {
		l.report(p.provisionAt, "Unsuitable profile", "For push, the counterparty makes the address. provision is for pull.")
	}
	set(f, "weight", &p.Weight, weight)
	l.strictness(f, &p)
	p.Response = responseOf(name, f.header)
	if r := f.single("response"); r != nil {
		p.Response = l.response(r, p)
	}
	return p
}

// strictness settles what a profile demands, most of which follows from whether it is a registered one.
func (l *loader) strictness(f fields, p *Profile) {
	registered := strings.HasPrefix(p.Name, registeredProfiles)
	p.Strict = registered
	set(f, "strict", &p.Strict, boolean)
	if registered && p.Strict && p.EndpointType != p.Name {
		l.report(f.at("endpoint_type"), "Contradicting endpoint_type", "By the profile's specification, the endpointType is its own name. "+
			"Leave endpoint_type out, or set strict = false.")
	}
	p.Renewal, p.renewalAt = RenewalOff, f.at("renewal")
	if p.Strict {
		p.Renewal = RenewalOffer
	}
	set(f, "renewal", &p.Renewal, oneOf(RenewalOff, RenewalOffer, RenewalRequire))
}

// direction settles a profile's direction between its name and its attribute.
func (l *loader) direction(f fields, p *Profile) {
	named := p.Direction
	if _, given := f.attrs["direction"]; !given && named == "" {
		l.report(f.header, "Missing direction", "The profile's name does not end in -push or -pull, so direction has to say \"push\" or \"pull\".")
	}
	if set(f, "direction", &p.Direction, oneOf(Push, Pull)) && named != "" && p.Direction != named {
		l.report(f.at("direction"), "Contradicting direction", "The profile's name says %s.", named)
	}
}

func (l *loader) dataset(b *hcl.Block) Dataset {
	f := l.open(b, datasetSchema)
	d := Dataset{ParticipantContext: DefaultContext, ID: l.label(b, checkID), Range: b.DefRange}
	set(f, "participant_context", &d.ParticipantContext, nonEmpty)
	d.contextAt = f.whereSet("participant_context")
	set(f, "mode", &d.Mode, oneOf(ModeAuto, ModeSync, ModeAsync))
	if s := f.single("source"); s != nil {
		d.Source = l.address(s)
	}
	if s := f.single("sink"); s != nil {
		d.Sink = l.address(s)
	}
	if r := f.single("response"); r != nil {
		d.Response = l.address(r)
		if f.valid && d.Source.Range.Filename == "" {
			l.report(r.DefRange, "Response without a source", "Who provides a dataset has its response channel, so it needs a source as well.")
		}
	}
	l.ownLimits(f, &d.Limits)
	if f.valid && !slices.ContainsFunc(f.blocks, func(b *hcl.Block) bool { return b.Type != "limits" }) {
		l.report(b.DefRange, "Empty dataset", "A dataset needs a source, a sink, or both.")
	}
	return d
}

// what names a dataset for a message.
func (d Dataset) what() string {
	if d.ParticipantContext == DefaultContext {
		return fmt.Sprintf("dataset %q", d.ID)
	}
	return fmt.Sprintf("dataset %q of the participant context %q", d.ID, d.ParticipantContext)
}

func (l *loader) signaling(b *hcl.Block, into *SignalingSettings) {
	f := l.open(b, signalingSchema)
	set(f, "answer_within", &into.AnswerWithin, duration)
}

func (l *loader) outbound(b *hcl.Block, into *Outbound) {
	f := l.open(b, outboundSchema)
	set(f, "allow", &into.Allow, allowed)
	set(f, "allow_http", &into.AllowHTTP, boolean)
	set(f, "timeout", &into.Timeout, duration)
}

func (l *loader) token(b *hcl.Block, into *Token) {
	f := l.open(b, tokenSchema)
	set(f, "lifetime", &into.Lifetime, duration)
	set(f, "max_bytes", &into.MaxBytes, size)
	set(f, "max_concurrent", &into.MaxConcurrent, count)
	set(f, "max_duration", &into.MaxDuration, duration)
	switch given := set(f, "refresh_lifetime", &into.RefreshLifetime, duration); {
	case !given:
		into.RefreshLifetime = max(into.RefreshLifetime, into.Lifetime)
	case into.RefreshLifetime < into.Lifetime:
		l.report(f.at("refresh_lifetime"), "Contradicting durations", "refresh_lifetime is %v, which is less than lifetime, %v.",
			into.RefreshLifetime, into.Lifetime)
	}
	if set(f, "renewal_grace", &into.RenewalGrace, duration) && into.RenewalGrace > into.RefreshLifetime {
		l.report(f.at("renewal_grace"), "Contradicting durations", "renewal_grace is %v, which is more than refresh_lifetime, %v.",
			into.RenewalGrace, into.RefreshLifetime)
	}
}

func (l *loader) transfer(b *hcl.Block, into *Transfer) {
	f := l.open(b, transferSchema)
	set(f, "digests", &into.Digests, digests)
	set(f, "checkpoint_interval", &into.CheckpointInterval, duration)
	set(f, "upload_lifetime", &into.UploadLifetime, duration)
	if w := f.single("watchdog"); w != nil {
		l.watchdog(w, &into.Watchdog)
	}
	r := f.single("retry")
	if r == nil {
		return
	}
	f = l.open(r, retrySchema)
	set(f, "first", &into.Retry.First, duration)
	set(f, "max", &into.Retry.Max, duration)
	set(f, "give_up_after", &into.Retry.GiveUpAfter, duration)
	if into.Retry.First > into.Retry.Max {
		l.report(f.header, "Contradicting durations", "first is %v, which is more than max, %v.", into.Retry.First, into.Retry.Max)
	}
}

func (l *loader) telemetry(b *hcl.Block, into *Telemetry) {
	f := l.open(b, telemetrySchema)
	set(f, "log_level", &into.LogLevel, logLevel)
	set(f, "log_format", &into.LogFormat, oneOf(LogText, LogJSON))
}

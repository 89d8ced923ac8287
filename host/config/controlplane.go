package config

import (
	"maps"
	"net/textproto"
	"net/url"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// ControlPlane is a control_plane block.
type ControlPlane struct {
	ID                 string
	ParticipantContext string
	Protocol           Protocol
	// Endpoint is the base URL of its callbacks, without '/' at its end. With ProtocolEDC, it is that of its control context.
	Endpoint string
	// CallbackAddresses are other URLs at whose origins a message may want callbacks (ProtocolEDC only).
	CallbackAddresses []string
	// TokenLifetime is how long the tokens of its flows are good. 0: as Token says, or with ProtocolEDC until they are revoked.
	TokenLifetime time.Duration
	// Renewal is under which names the tokens of its flows are renewed: RenewalTractusX, or "" as the profiles say.
	Renewal TokenNames
	// GiveUpAfter is how long a callback is tried.
	GiveUpAfter time.Duration
	// Timeout is how long one request to it may take.
	Timeout time.Duration
	// TLS is nil if it is called with the certificates of the system, and none of our own.
	TLS *ClientTLS
	// Authorization is nil if neither side proves who it is.
	Authorization *Authorization
	// Registration is nil if the data plane does not register with it.
	Registration *Registration

	Range hcl.Range

	contextAt, tlsAt hcl.Range
}

// Protocol is what a control plane speaks.
type Protocol string

// The protocols.
const (
	ProtocolDPS Protocol = "dps" // Data Plane Signaling
	ProtocolEDC Protocol = "edc" // EDC's signaling, version 1
)

// TokenNames are the names that the renewal of tokens has, in addresses and in answers.
type TokenNames string

// RenewalTractusX is how the connectors of Tractus-X have it (ProtocolEDC only).
const RenewalTractusX TokenNames = "tractusx"

// EDCPath is the path, below Signaling.BasePath, at which an EDC control plane gives its orders.
func EDCPath(controlPlane string) string {
	return "/edc/" + url.PathEscape(controlPlane) + "/v1/dataflows"
}

// Registration is the registration block of a control plane: how the data plane makes itself known to it.
type Registration struct {
	// Endpoint is the URL to which /dataplanes is added, without '/' at its end.
	Endpoint string
	// DataplaneEndpoint is the URL of the signaling API that the control plane is told. "" if it is known only once the server listens:
	// its URL, then Signaling.BasePath, then "/dataflows".
	DataplaneEndpoint string
	Labels            []string
	// Headers are sent with the request, by their canonical names.
	Headers map[string]Secret
	// DeregisterOnStop takes the registration back at an orderly stop.
	DeregisterOnStop bool
	// ProvisionTypes are the types of destinations that the control plane is told to have prepared here (ProtocolEDC only).
	ProvisionTypes []string
	// Authorization is what the control plane is told of how it calls this data plane. Nil: nothing.
	Authorization *AuthorizationEntry

	Range hcl.Range

	told bool // DataplaneEndpoint was given, if not well
}

func (l *loader) controlPlane(b *hcl.Block) ControlPlane {
	f := l.open(b, controlPlaneSchema)
	c := controlPlaneDefaults()
	c.ID, c.Range = l.label(b, checkID), b.DefRange
	set(f, "endpoint", &c.Endpoint, baseURL)
	set(f, "participant_context", &c.ParticipantContext, nonEmpty)
	c.contextAt = f.whereSet("participant_context")
	set(f, "give_up_after", &c.GiveUpAfter, duration)
	set(f, "timeout", &c.Timeout, duration)
	set(f, "protocol", &c.Protocol, oneOf(ProtocolDPS, ProtocolEDC))
	if set(f, "callback_addresses", &c.CallbackAddresses, baseURLs) && c.Protocol != ProtocolEDC {
		l.report(f.at("callback_addresses"), "Unsuitable setting", "It is for control planes with protocol = \"edc\", whose messages say where "+
			"callbacks go. Those of Data Plane Signaling go to endpoint.")
	}
	set(f, "token_lifetime", &c.TokenLifetime, duration)
	if set(f, "renewal", &c.Renewal, oneOf(RenewalTractusX)) && c.Protocol != ProtocolEDC {
		l.report(f.at("renewal"), "Unsuitable setting", "It is for control planes with protocol = \"edc\". "+
			"With Data Plane Signaling, renewal belongs in the profile blocks.")
	}
	if t := f.single("tls"); t != nil {
		c.TLS, c.tlsAt = l.clientTLS(t), t.DefRange
	}
	if a := f.single("authorization"); a != nil {
		c.Authorization = l.authorization(a, c.ID)
		if c.Protocol == ProtocolEDC && !c.Authorization.incomplete && c.Authorization.Type != StaticCredential {
			l.report(a.LabelRanges[0], "Unsuitable authorization", "EDC's control planes have no other than \"static\", with a key in a header.")
		}
	}
	if r := f.single("registration"); r != nil {
		c.Registration = l.registration(r, c.Protocol)
	}
	return c
}

func (l *loader) registration(b *hcl.Block, protocol Protocol) *Registration {
	f := l.open(b, registrationSchema)
	r := &Registration{Range: b.DefRange}
	set(f, "endpoint", &r.Endpoint, registrationURL)
	set(f, "dataplane_endpoint", &r.DataplaneEndpoint, baseURL)
	r.told = f.has("dataplane_endpoint")
	set(f, "labels", &r.Labels, nonEmptyTexts)
	r.Headers = l.headers(f)
	set(f, "deregister_on_stop", &r.DeregisterOnStop, boolean)
	if set(f, "destination_provision_types", &r.ProvisionTypes, nonEmptyTexts) && protocol != ProtocolEDC {
		l.report(f.at("destination_provision_types"), "Unsuitable setting", "It is for control planes with protocol = \"edc\". "+
			"Those of Data Plane Signaling have every consumer's flow prepared.")
	}
	a := f.single("authorization")
	switch {
	case a != nil && protocol == ProtocolEDC:
		l.report(a.DefRange, "Unsuitable authorization", "EDC's control planes cannot be told how to call a data plane. "+
			"What they send is set there; the authorization block of the control_plane says what it is.")
	case a != nil:
		r.Authorization = l.authorizationEntry(a)
	}
	if protocol == ProtocolEDC && f.has("labels") {
		l.report(f.at("labels"), "Unsuitable setting", "EDC's control planes know no labels of data planes.")
	}
	return r
}

// headers reads headers, of which those that carry credentials have to come from secret(). No diagnostic about them shows the source.
func (l *loader) headers(f fields) (into map[string]Secret) {
	attr, ok := f.attrs["headers"]
	if !ok {
		return nil
	}
	defer l.hideFrom(len(l.diags))
	v, ok := l.eval(attr)
	if !ok {
		return nil
	}
	if kindOf(v.Value) != "a map" {
		l.report(v.at, "Unsuitable value", "headers: %s is not a map: { \"Name\" = \"value\" }.", kindOf(v.Value))
		return nil
	}
	into = map[string]Secret{}
	for _, name := range slices.Sorted(maps.Keys(v.AsValueMap())) {
		l.header(into, name, v.element(name))
	}
	return into
}

func (l *loader) header(into map[string]Secret, name string, v value) {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	_, twice := into[canonical]
	err := checkHeader(name)
	switch {
	case err != nil:
		l.report(v.at, "Unsuitable header", "headers: %v.", err)
	case twice:
		l.report(v.at, "Duplicate name", "headers: %s is set twice.", canonical)
	case slices.Contains(credentialHeaders, canonical) && !v.sensitive:
		l.report(v.at, "Secret required", "headers: %s: %s.", canonical, fromSecret)
	default:
		if s, ok := l.secret("headers: "+canonical, v, headerValue); ok {
			into[canonical] = s
		}
	}
}

// finishControlPlanes fills in what follows from other blocks, and holds the control planes against them and against each other.
func (l *loader) finishControlPlanes() {
	c := l.config
	for i := range c.ControlPlanes {
		p := &c.ControlPlanes[i]
		if a := p.Authorization; a != nil && a.Type != StaticCredential && a.Audiences == nil {
			a.Audiences = []string{c.DataPlane.ID}
		}
		l.finishRegistration(p)
		l.uselessTLS(*p)
		l.callersKnown(*p)
		for _, earlier := range c.ControlPlanes[:i] {
			l.distinctCallers(earlier, *p)
		}
	}
	l.contextsInUse()
}

// finishRegistration derives where the data plane registers, and what it says of itself.
func (l *loader) finishRegistration(p *ControlPlane) {
	r := p.Registration
	if r == nil {
		return
	}
	if r.Endpoint == "" {
		r.Endpoint = p.Endpoint
	}
	s := l.config.Signaling
	switch {
	case r.told:
	case s.URL != "" && p.Protocol == ProtocolEDC:
		r.DataplaneEndpoint = s.URL + s.BasePath + EDCPath(p.ID)
	case s.URL != "":
		r.DataplaneEndpoint = s.URL + s.BasePath + "/dataflows"
	case s.reachedNowhere():
		l.report(r.Range, "Missing url", "The control plane cannot be told %q, which stands for all interfaces. "+
			"Set url in listen \"signaling\", or dataplane_endpoint here.", s.Address)
	}
	told, expected := r.Authorization, p.Authorization
	if told != nil && expected != nil && expected.Type != "" && told.Type != expected.Type {
		l.report(told.Range, "Contradicting authorization", "The control plane is told %s, but the authorization block of %q at %s is %s.",
			told.Type, p.ID, place(expected.Range), expected.Type)
	}
}

// uselessTLS reports a tls block under which nothing is called by HTTPS.
func (l *loader) uselessTLS(p ControlPlane) {
	called := []string{p.Endpoint}
	if p.Registration != nil {
		called = append(called, p.Registration.Endpoint)
	}
	if a := p.Authorization; a != nil {
		called = append(called, a.TokenEndpoint, a.TokenExchangeEndpoint, a.JWKSURI)
	}
	if p.TLS != nil && p.Endpoint != "" && !slices.ContainsFunc(called, isHTTPS) {
		l.report(p.tlsAt, "Contradicting tls", "The control plane is called by plain HTTP, so tls has no effect.")
	}
}

// callersKnown reports a control plane whose signals could not be told from those of another. Each that speaks EDC's protocol has its
// own path.
func (l *loader) callersKnown(p ControlPlane) {
	c := l.config
	if p.Protocol == ProtocolEDC || p.Authorization != nil && p.Authorization.incomplete || p.Authorization.HasInbound() {
		return
	}
	why := ""
	for _, context := range c.ParticipantContexts {
		if context.registers() {
			why = "Control planes can register themselves"
		}
	}
	alike := func(other ControlPlane) bool { return other.Protocol != ProtocolEDC && other.ID != p.ID }
	if slices.ContainsFunc(c.ControlPlanes, alike) {
		why = "There is more than one control plane"
	}
	switch {
	case why == "":
	case p.Authorization == nil:
		l.report(p.Range, "Missing authorization", "%s, so each needs an authorization block that says how it proves who it is.", why)
	default:
		l.report(p.Authorization.Range, "Missing inbound", "%s, so each has to prove who it is. Set inbound.", why)
	}
}

func (l *loader) distinctCallers(earlier, later ControlPlane) {
	if earlier.Protocol == ProtocolEDC || later.Protocol == ProtocolEDC {
		return
	}
	if a := later.Authorization; a.accepts(earlier.Authorization, earlier.ParticipantContext == later.ParticipantContext) {
		l.report(a.Range, "Control planes alike", "What proves %q can prove %q at %s as well, so it could not be told which of them calls.",
			later.ID, earlier.ID, place(earlier.Authorization.Range))
	}
}

// registers reports whether control planes can register in the context.
func (c ParticipantContext) registers() bool { return c.registrationKeyAt.Filename != "" }

// contextsInUse checks the participant contexts that control planes and datasets name: they have to be there, and a dataset that no
// control plane can ask for is of no use.
func (l *loader) contextsInUse() {
	c := l.config
	used, known := map[string]bool{}, true
	for _, p := range c.ParticipantContexts {
		used[p.Name] = p.registers()
	}
	for _, p := range c.ControlPlanes {
		known = l.knownContext(p.ParticipantContext, p.contextAt) && known
		used[p.ParticipantContext] = true
	}
	for _, d := range c.Datasets {
		known = l.knownContext(d.ParticipantContext, d.contextAt) && known
	}
	maps.DeleteFunc(used, func(_ string, yes bool) bool { return !yes })
	if !known || len(used) == 0 {
		return // which is reported
	}
	for _, d := range c.Datasets {
		if !used[d.ParticipantContext] {
			l.report(d.Range, "Dataset out of reach", "No control plane is in its participant context, %q. Set participant_context to one of: %s.",
				d.ParticipantContext, list(slices.Collect(maps.Keys(used))))
		}
	}
	l.renewable(used)
}

// renewable reports profiles that require tokens which some participant could not renew.
func (l *loader) renewable(used map[string]bool) {
	var without []string
	for _, c := range l.config.ParticipantContexts {
		if used[c.Name] && c.didAt.Filename == "" {
			without = append(without, c.Name)
		}
	}
	for _, p := range l.config.Profiles {
		if p.Renewal == RenewalRequire && len(without) > 0 {
			l.report(p.renewalAt, "Missing did", "Tokens are renewed between DIDs, and these participant contexts have none: %s. "+
				"Set did in the participant_context block of each.", list(without))
		}
	}
}

// finishURLs reports plain HTTP where keys or credentials would come or go.
func (l *loader) finishURLs() {
	for _, s := range l.secured {
		u, err := url.Parse(s.url)
		if err == nil && !isHTTPS(s.url) && !loopbackHost(u.Hostname()) && !l.config.Outbound.AllowHTTP {
			l.report(s.at, "Plain HTTP", "%s: it does not lead to this machine, so it has to begin with https://. "+
				"The outbound block can allow_http.", s.name)
		}
	}
}

// securedURL is a URL that has to be HTTPS.
type securedURL struct {
	name, url string
	at        hcl.Range
}

// setSecured is set for a URL that has to be HTTPS.
func (l *loader) setSecured(f fields, name string, into *string) {
	if set(f, name, into, endpointURL) {
		l.secured = append(l.secured, securedURL{name, *into, f.at(name)})
	}
}

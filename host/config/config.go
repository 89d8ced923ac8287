package config

import (
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Config is a whole configuration, defaults filled in. All paths in it are absolute. Only Check changes it.
type Config struct {
	DataPlane         DataPlane
	Signaling         Listener
	Public            Listener
	Admin             Listener
	SignalingSettings SignalingSettings
	Outbound          Outbound
	Store             Store
	Plugins           Plugins
	Profiles          []Profile
	Datasets          []Dataset
	// ParticipantContexts has DefaultContext too: first, if it has no block.
	ParticipantContexts []ParticipantContext
	// ControlPlanes is empty only if a participant context has a registration key.
	ControlPlanes []ControlPlane
	Token         Token
	Transfer      Transfer
	Limits        Limits
	Access        *Access // nil: a token that is good suffices
	Telemetry     Telemetry

	files         map[string]*hcl.File
	configBlocks  map[string]configBlock // by plugin
	pluginConfigs map[string][]byte      // what Check made of them
}

// String returns nothing that could be a secret.
func (c *Config) String() string { return "configuration of data plane " + c.DataPlane.ID }

// GoString returns nothing that could be a secret.
func (c *Config) GoString() string { return c.String() }

// PluginConfig returns what to hand to a plugin as sdk.Config.JSON: nil before Check, and for a plugin that is not used. It may hold
// secrets.
func (c *Config) PluginConfig(name string) []byte { return c.pluginConfigs[name] }

// DataPlane is the dataplane block.
type DataPlane struct {
	ID      string
	DataDir string
}

// Listener is a listen block: where one of the three servers listens.
type Listener struct {
	// Address is host:port. An empty host stands for all interfaces, port 0 for any free port.
	Address string
	// URL is what counterparties (public) and control planes (signaling) are told, without '/' at its end. "" for admin, and if the block
	// has no url and Address has port 0: it is known only once the server listens. Also "" if nobody has to be told that of signaling
	// and Address stands for all interfaces.
	URL string
	// BasePath comes before every path of the signaling API: "", or with '/' at its beginning and none at its end.
	BasePath string
	// Token is what a request has to bring as bearer (admin only). None: it needs nothing.
	Token Secret
	// ProxyHeaders are fields of requests that are handed on to servers behind a source besides the usual ones (public only), in their
	// canonical form.
	ProxyHeaders []string
	// TLS is nil for plain HTTP.
	TLS *TLS

	Range hcl.Range // header of the block; zero if there is none
}

// Loopback reports whether only this machine can reach the listener.
func (l Listener) Loopback() bool {
	host, _, err := net.SplitHostPort(l.Address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// SignalingSettings is the signaling block.
type SignalingSettings struct {
	// AnswerWithin is how long prepare and start in ModeAuto may take before they are answered with 202.
	AnswerWithin time.Duration
}

// Outbound is the outbound block: the rules for requests to addresses that came from a peer.
type Outbound struct {
	// Allow may be reached although it is refused by default: "loopback", hosts, host:port, IP addresses, networks.
	Allow []string
	// AllowHTTP also allows plain HTTP to other hosts than this one.
	AllowHTTP bool
	Timeout   time.Duration
}

// Store is the store block. SQLite is the only kind.
type Store struct {
	Path string
}

// Plugins is the plugins block, with the plugin blocks.
type Plugins struct {
	Directory string
	Trust     Trust
	// Publishers are those whose signatures count; at least one with TrustSigned.
	Publishers []Publisher
	// Watch takes plugins into use and out of it while the host runs, as their files come and go.
	Watch bool
	// Declared are the plugin blocks in the order of their files.
	Declared []Plugin

	Range hcl.Range
}

// Trust says which plugin binaries may run.
type Trust string

// The policies of trust.
const (
	TrustPinned    Trust = "pinned"    // those with the SHA-256 that their plugin block gives
	TrustSigned    Trust = "signed"    // those that a publisher has signed
	TrustAsk       Trust = "ask"       // those that someone has decided to trust
	TrustDirectory Trust = "directory" // those in a directory that only the host's user or root can change
	TrustOff       Trust = "off"       // all
)

// Plugin is a plugin block.
type Plugin struct {
	Name string
	// Address, if not "", is where the plugin is dialled, as sdk.ListenAddress reads it. It is not launched then, and what is about that has
	// its default.
	Address string
	// TLS is there if and only if the plugin is dialled over TCP.
	TLS *DialTLS
	// Binary is a file name in the directory. "": the plugin's name, with or without the prefix "towpath-plugin-".
	Binary string
	// SHA256 of the binary in lower-case hexadecimal digits. "" if it is not pinned; with TrustPinned only if there is no binary.
	SHA256 string
	// Publisher is whose signature the binary has to have. "": anyone's, if it needs one at all.
	Publisher string
	// Environment is set for the process, beside the variables of the host that PassEnvironment names.
	Environment     map[string]string
	PassEnvironment []string
	StartTimeout    time.Duration // from launch to the first answer
	DrainTimeout    time.Duration // to bring its flows to rest
	DrainBound      bool          // it was given, and holds also when the binary was removed or replaced
	StopTimeout     time.Duration // from the request to end to the kill
	HandoverTimeout time.Duration // for a binary that has replaced another to move data
	// Lane is LaneAuto or LaneGRPC.
	Lane       Lane
	LaneBuffer int64 // asked of the kernel for each flow, in bytes; 0: what a thousand flows can afford
	MTLS       MTLS  // of the connection for control
	// ServerSideCopy lets stores copy what goes from one address in them to another.
	ServerSideCopy bool
	Start          Start
	// Isolation says which flows share a process, MaxProcesses how many there are at most besides the one for calls of no flow.
	Isolation    Isolation
	MaxProcesses int
	// QuarantineAfter is how many crashes in a row put it into quarantine; 0: none do.
	QuarantineAfter int
	// What the plugin may use and do at most.
	Limits      PluginLimits
	Permissions Permissions

	Range hcl.Range
}

// Start says when a plugin's process is launched.
type Start string

// The times of launch. What has not been described before is launched at once in any case.
const (
	StartOnDemand Start = "on-demand" // with the first call that needs it
	StartAlways   Start = "always"    // with the host
)

// Isolation says which flows share a process of a plugin.
type Isolation string

// The kinds of isolation.
const (
	IsolationShared      Isolation = "shared"      // all
	IsolationFlow        Isolation = "flow"        // none
	IsolationParticipant Isolation = "participant" // those of one participant context
)

// Lane says how payload travels between the host and a plugin.
type Lane string

// The lanes.
const (
	LaneAuto Lane = "auto" // the fastest that the system and the plugin have
	LaneGRPC Lane = "grpc"
)

// MTLS says whether a plugin's connection is under mutual TLS.
type MTLS string

// The settings of mutual TLS.
const (
	MTLSAuto MTLS = "auto" // where that does not slow payload down
	MTLSOn   MTLS = "on"
	MTLSOff  MTLS = "off"
)

// configBlock is the config block of a plugin; without values at the plugin's own block if there is none. It may hold secrets, and
// so is not part of Plugin, which can be printed.
type configBlock struct {
	values map[string]value
	at     hcl.Range
}

// Direction says who asks for the bytes: in Push the provider sends them, in Pull the consumer fetches them.
type Direction string

// The directions.
const (
	Push Direction = "push"
	Pull Direction = "pull"
)

// Profile is a profile block.
type Profile struct {
	Name      string
	Direction Direction
	// EndpointType is the endpointType of addresses that are issued.
	EndpointType string
	// Types maps the endpointType of a counterparty's address to the type of the plugin that handles it. What is not in it is its own
	// type.
	Types map[string]string
	// Type, if not "", is the plugin's type whatever the address says. Types is then empty.
	Type string
	// AllowHTTP accepts and issues addresses that are not HTTPS.
	AllowHTTP bool
	// Strict demands what the profile's specification does.
	Strict  bool
	Mode    Mode
	Renewal Renewal
	// Provision, if not "", is the type of the sink that makes the addresses which are issued, in place of the public API.
	Provision string
	// Weight is that of its flows, if their dataset has none. 0: none is given.
	Weight int64
	// DatasetInMessage takes a dataset that is declared nowhere from the metadata of the message.
	DatasetInMessage bool
	// Response, if not nil, gives the flows that this side provides a response channel.
	Response *Response

	Range hcl.Range

	typeRanges  map[string]hcl.Range // by plugin type
	renewalAt   hcl.Range
	provisionAt hcl.Range
}

// Response is the response block of a profile, or what the profile's name says in its place.
type Response struct {
	// EndpointType is the endpointType of the channel that counterparties are told. "" with Provision: what makes the channel says it.
	EndpointType string
	// Provision, if not "", is the type of the plugin that makes the channel, in place of the public API.
	Provision string
	// Linger is how long a push that has sent everything stays open for what its counterparty still has to say.
	Linger time.Duration

	provisionAt hcl.Range
}

// Mode says when prepare and start are answered.
type Mode string

// The modes.
const (
	ModeAuto  Mode = "auto"  // when the work is done, or after a while with 202
	ModeSync  Mode = "sync"  // when the work is done
	ModeAsync Mode = "async" // at once, with 202
)

// Renewal says whether tokens can be renewed (profile Token Renewal).
type Renewal string

// The kinds of renewal.
const (
	RenewalOff     Renewal = "off"     // issued addresses have no refresh token
	RenewalOffer   Renewal = "offer"   // they have, if both participants are DIDs
	RenewalRequire Renewal = "require" // the same, and an address without one is refused
)

// registeredProfiles is how the names of profiles begin that are in the registry of Data Plane Signaling.
const registeredProfiles = "https://w3id.org/dspace-sig/profile/"

// The HTTP transfer profile is, in both directions, what a plugin with this type does.
const (
	httpProfiles = registeredProfiles + "http-"
	httpType     = "HttpData"
)

// Dataset is a dataset block: at least one of Source and Sink is not zero.
type Dataset struct {
	// ParticipantContext and ID together are unique.
	ParticipantContext string
	ID                 string
	// Mode goes before that of the profile. "": the profile's.
	Mode   Mode
	Source Address
	Sink   Address
	// Response is written with what comes back when this side provides the dataset.
	Response Address
	Limits   Limit

	Range hcl.Range

	contextAt hcl.Range
}

// Token is the token block: the limits of each token issued, and of its renewal.
type Token struct {
	Lifetime time.Duration
	// MaxBytes is how much one token may read or write. 0: no limit.
	MaxBytes int64
	// MaxConcurrent is how many requests may run at once with one token.
	MaxConcurrent int
	// MaxDuration is how long one request may run. 0: no limit.
	MaxDuration time.Duration
	// RefreshLifetime is how long a refresh token can be used. It is not less than Lifetime.
	RefreshLifetime time.Duration
	// RenewalGrace is how long a refresh token that was used answers the same again.
	RenewalGrace time.Duration
}

// Transfer is the transfer block.
type Transfer struct {
	// Digests are computed for every part. The first is always sdk.CRC32C.
	Digests            []sdk.Algorithm
	CheckpointInterval time.Duration
	// UploadLifetime is how long an upload that was cut can go on, from its last bytes on.
	UploadLifetime time.Duration
	Retry          Retry
	Watchdog       Watchdog
}

// Retry says how a transfer goes on after a failure that can pass: waiting First, then longer each time up to Max.
type Retry struct {
	First time.Duration
	Max   time.Duration
	// GiveUpAfter is how long it is tried without progress before the failure is reported.
	GiveUpAfter time.Duration
}

// Telemetry is the telemetry block.
type Telemetry struct {
	LogLevel  slog.Level
	LogFormat LogFormat
}

// LogFormat is how log records are written.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

package admin

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// PluginList is the answer of /api/v1/plugins.
type PluginList struct {
	Plugins []Plugin `json:"plugins"`
}

// Plugin is a plugin as the API shows it.
type Plugin struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Path    string `json:"path"`              // "" if it is dialled
	Address string `json:"address,omitempty"` // that it is dialled at
	SHA256  string `json:"sha256,omitempty"`  // of the file
	// Generation is the digest of the build that this is about: of the file, unless that has another content now; of a plugin that is dialled,
	// the digest of what it says of itself. "": none was used.
	Generation string    `json:"generation,omitempty"`
	Status     string    `json:"status"` // whether it may be executed
	Reason     string    `json:"reason,omitempty"`
	State      string    `json:"state"`
	Since      time.Time `json:"since"`
	Problem    string    `json:"problem,omitempty"`
	PID        int       `json:"pid,omitempty"`
	Restarts   int       `json:"restarts"`
	Launches   int       `json:"launches"`
	// LaunchSeconds is what its last launch took, until it was ready.
	LaunchSeconds float64  `json:"launchSeconds,omitempty"`
	Flows         int      `json:"flows"`
	Sources       []string `json:"sources"`
	Sinks         []string `json:"sinks"`
	LastExit      *Exit    `json:"lastExit,omitempty"`
	// Isolation says which flows share a process: shared, flow or participant.
	Isolation  string          `json:"isolation,omitempty"`
	Processes  []PluginProcess `json:"processes,omitempty"`
	Quarantine *Quarantine     `json:"quarantine,omitempty"`
	Suspects   []PluginSuspect `json:"suspects,omitempty"`
	// Probation is that the build has followed another, and has not moved data yet.
	Probation *Probation `json:"probation,omitempty"`
	// RolledBack is that the file has a build that was given up for this one. In what commands show of a file, this one was given up.
	RolledBack *RolledBack `json:"rolledBack,omitempty"`
	// Description, Build and Confinement are left out of lists.
	Description *sdk.Description `json:"description,omitempty"`
	Build       *Build           `json:"build,omitempty"` // nil if the file does not say
	Confinement []Confinement    `json:"confinement,omitempty"`
}

// Probation is what a build of a plugin has to prove: should it move no data, the one before is used again.
type Probation struct {
	Since   time.Time `json:"since"`
	SHA256  string    `json:"sha256"` // of the build before
	Version string    `json:"version,omitempty"`
}

// RolledBack is that a build of a plugin did not prove itself. It is not used until the file has another content, or an operator says so.
type RolledBack struct {
	At      time.Time `json:"at"`
	SHA256  string    `json:"sha256"` // of that build
	Version string    `json:"version,omitempty"`
	Why     string    `json:"why"`
}

// Exit says how a plugin's process ended.
type Exit struct {
	At     time.Time `json:"at"`
	Status string    `json:"status"`
	Signal string    `json:"signal,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Stderr []string  `json:"stderr,omitempty"`
}

// PluginProcess is one of a plugin's processes.
type PluginProcess struct {
	PID   int       `json:"pid,omitempty"` // 0: it is being launched
	For   string    `json:"for"`           // "shared", or whose it is
	State string    `json:"state"`
	Since time.Time `json:"since"`
	Flows int       `json:"flows"`
}

// PluginSuspect is a flow that may crash the plugin, and has its calls made to a process apart.
type PluginSuspect struct {
	For     string `json:"for"`
	Process string `json:"process"`
	Crashes int    `json:"crashes"` // of that process, without getting further
	Place   string `json:"place,omitempty"`
}

// Quarantine says why a plugin is not launched any more.
type Quarantine struct {
	Since         time.Time `json:"since"`
	Crashes       int       `json:"crashes"`
	WithinSeconds float64   `json:"withinSeconds"` // from the first to the last
	Exit          Exit      `json:"exit"`          // the last
	Do            string    `json:"do"`
}

// Build is what a program in Go says about how it was built.
type Build struct {
	Go           string            `json:"go"`
	Main         string            `json:"main,omitempty"`    // package
	Module       string            `json:"module,omitempty"`  // that it is in
	Version      string            `json:"version,omitempty"` // of the module
	Revision     string            `json:"revision,omitempty"`
	Modified     bool              `json:"modified,omitempty"` // since the revision
	Time         string            `json:"time,omitempty"`     // of the revision
	Dependencies map[string]string `json:"dependencies,omitempty"`
}

// Confinement is one thing that a plugin can be kept to.
type Confinement struct {
	Name     string `json:"name"`
	Declared string `json:"declared,omitempty"` // by the plugin
	Allowed  string `json:"allowed,omitempty"`  // by the operator
	Confined string `json:"confined,omitempty"` // what it is to be kept to
	InForce  bool   `json:"inForce"`            // on this machine
	How      string `json:"how"`                // by what, how far, or why not
}

// Decision is that an operator trusts a file.
type Decision struct {
	Plugin string    `json:"plugin"`
	SHA256 string    `json:"sha256"`
	Path   string    `json:"path"` // where it was then
	At     time.Time `json:"at"`
	// Problem says what kept the host from using the plugin at once.
	Problem string `json:"problem,omitempty"`
}

// PluginTrust keeps what operators decide about plugins. Its errors are *sdk.Errors, or wrap flow.ErrStorage.
type PluginTrust interface {
	// Decided returns the decision about a plugin; nil if there is none.
	Decided(ctx context.Context, name string) (*Decision, error)
	// Trust decides to trust the file that a plugin has now. Its digest has to be sha256, unless that is "".
	Trust(ctx context.Context, name, sha256 string) (*Decision, error)
	// Distrust takes a decision back, and reports whether there was one.
	Distrust(ctx context.Context, name string) (bool, error)
}

func (h handler) plugins(w http.ResponseWriter, _ *http.Request) {
	list := PluginList{Plugins: h.Plugins()}
	for i := range list.Plugins {
		list.Plugins[i].Description, list.Plugins[i].Confinement = nil, nil
	}
	reply(w, http.StatusOK, list)
}

func (h handler) rescan(w http.ResponseWriter, r *http.Request) {
	if err := h.Rescan(r.Context()); err != nil {
		newProblem(http.StatusServiceUnavailable, "the plugin directory cannot be looked at: %v", err).write(w)
		return
	}
	h.plugins(w, r)
}

func (h handler) release(w http.ResponseWriter, r *http.Request) {
	if err := h.Release(r.Context(), r.PathValue("name")); err != nil {
		h.refuse(w, r, err)
		return
	}
	h.plugin(w, r)
}

func (h handler) plugin(w http.ResponseWriter, r *http.Request) {
	plugins := h.Plugins()
	i := slices.IndexFunc(plugins, func(p Plugin) bool { return p.Name == r.PathValue("name") })
	if i < 0 {
		newProblem(http.StatusNotFound, "there is no plugin %.300q", r.PathValue("name")).write(w)
		return
	}
	if h.PluginBuild != nil {
		plugins[i].Build = h.PluginBuild(plugins[i].Path)
	}
	reply(w, http.StatusOK, plugins[i])
}

func (h handler) pluginDecision(w http.ResponseWriter, r *http.Request) {
	d, err := h.PluginTrust.Decided(r.Context(), r.PathValue("name"))
	switch {
	case err != nil:
		h.refuse(w, r, err)
	case d == nil:
		newProblem(http.StatusNotFound, "nothing is decided about plugin %.300q", r.PathValue("name")).write(w)
	default:
		reply(w, http.StatusOK, d)
	}
}

// TrustRequest is the body of a request to trust a plugin.
type TrustRequest struct {
	SHA256 string `json:"sha256"` // "": whatever the file has
}

func (h handler) trustPlugin(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	o, wrong := decodeObject(body)
	digest := ""
	if o != nil {
		o.wrong = &wrong
		digest = o.text("sha256")
		o.end()
	}
	if len(wrong) > 0 {
		wrongFields(http.StatusBadRequest, wrong).write(w)
		return
	}
	d, err := h.PluginTrust.Trust(r.Context(), r.PathValue("name"), digest)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.Logger.Info("plugin is trusted", "plugin", d.Plugin, "sha256", d.SHA256)
	reply(w, http.StatusOK, d)
}

func (h handler) distrustPlugin(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	there, err := h.PluginTrust.Distrust(r.Context(), name)
	switch {
	case err != nil:
		h.refuse(w, r, err)
	case !there:
		newProblem(http.StatusNotFound, "nothing is decided about plugin %.300q", name).write(w)
	default:
		h.Logger.Info("plugin is trusted no more", "plugin", name)
		w.WriteHeader(http.StatusNoContent)
	}
}

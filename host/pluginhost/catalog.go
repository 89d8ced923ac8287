package pluginhost

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Cache keeps what plugins said of themselves, by the digest of their files, from one process of the host to the next. Its methods may be
// called concurrently.
type Cache interface {
	// Load returns what Save kept last for a digest, and false if there is nothing.
	Load(ctx context.Context, digest string) ([]byte, bool, error)
	// Save keeps content for a digest in place of what there was.
	Save(ctx context.Context, digest string, content []byte) error
}

// describedFormat is the encoding of described. It is raised whenever that, or sdk.Description, changes: what an earlier host kept is then
// asked for again.
const describedFormat = 2

// described is what the cache has for one digest. A file can be several plugins, by the name that it is called with.
type described struct {
	Format  int                `json:"format"`
	Plugins map[string]account `json:"plugins"`
}

// account is what a plugin said of itself, and what was learnt when it was launched.
type account struct {
	Description sdk.Description `json:"description"`
	// Clear says that it is no good for mutual TLS, see launcher.launch.
	Clear bool `json:"clear,omitempty"`
	// Standing is kept for a build that has followed another and has not proved itself.
	Standing *standing `json:"standing,omitempty"`
}

// build is what a plugin's generation is of.
type build struct{ name, sha256 string }

// isNew says whether this host was the first to describe a file.
func (h *Host) isNew(c Candidate) bool {
	h.remembering.Lock()
	defer h.remembering.Unlock()
	return h.news[build{c.Name, c.SHA256}]
}

// recall returns what a plugin said of itself when its file was described, and false if that is not known.
func (h *Host) recall(c Candidate) (account, bool) {
	if h.options.Cache == nil || c.SHA256 == "" {
		return account{}, false
	}
	a, ok := h.load(c.SHA256).Plugins[c.Name]
	return a, ok && checkDescription(c.Name, a.Description) == nil
}

// load reads what is kept for a digest. What cannot be read is as good as nothing: the plugin is asked again.
func (h *Host) load(digest string) (d described) {
	content, ok, err := h.options.Cache.Load(h.closing, digest)
	if err == nil && ok {
		err = json.Unmarshal(content, &d)
	}
	if err != nil {
		h.log.Warn("what a plugin said of itself is not at hand, so it is asked again", "sha256", digest, "err", err)
	}
	if err != nil || d.Format != describedFormat {
		return described{}
	}
	return d
}

// remember keeps what a plugin has said of itself. Nothing depends on that but the next start.
func (h *Host) remember(in *instance) {
	if h.options.Cache == nil || in.SHA256 == "" {
		return
	}
	h.remembering.Lock()
	defer h.remembering.Unlock()
	h.news[build{in.Name, in.SHA256}] = true
	d := described{Format: describedFormat, Plugins: maps.Clone(h.load(in.SHA256).Plugins)}
	if d.Plugins == nil {
		d.Plugins = map[string]account{}
	}
	d.Plugins[in.Name] = account{in.description, in.clear.Load(), d.Plugins[in.Name].Standing}
	content, err := json.Marshal(d)
	if err == nil {
		err = h.options.Cache.Save(h.closing, in.SHA256, content)
	}
	if err != nil && h.closing.Err() == nil {
		h.log.Warn("what a plugin says of itself is not kept", "plugin", in.Name, "err", fmt.Errorf("save: %w", err))
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
	"github.com/towpath-dataplane/towpath/host/store"
	"github.com/towpath-dataplane/towpath/sdk"
)

// decisionKind is the kind of the documents that hold what operators have decided about plugins, by name.
const decisionKind = "plugin-trust"

// decisionTimeout bounds what is asked of the store about one plugin.
const decisionTimeout = 10 * time.Second

// decisions are those in the store.
type decisions struct{ documents flow.Documents }

func (d decisions) find(ctx context.Context, name string) (*admin.Decision, error) {
	documents, err := d.documents.Documents(ctx, decisionKind)
	if err != nil {
		return nil, err
	}
	return decisionIn(documents, name)
}

func decisionIn(documents []flow.Document, name string) (*admin.Decision, error) {
	for _, document := range documents {
		if document.ID != name {
			continue
		}
		var decision admin.Decision
		if err := json.Unmarshal(document.Content, &decision); err != nil {
			return nil, fmt.Errorf("decision about plugin %s: %w", name, err)
		}
		return &decision, nil
	}
	return nil, nil
}

// lookup is find for a plugin host.
func (d decisions) lookup(name string) (pluginhost.Decision, bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), decisionTimeout)
	defer cancel()
	decision, err := d.find(ctx, name)
	return forHost(decision, err)
}

func forHost(decision *admin.Decision, err error) (pluginhost.Decision, bool, error) {
	if err != nil || decision == nil {
		return pluginhost.Decision{}, false, err
	}
	return pluginhost.Decision{SHA256: decision.SHA256, Path: decision.Path, At: decision.At}, true, nil
}

// pluginTrust decides about plugins in this process.
type pluginTrust struct {
	decisions
	plugins *pluginhost.Host
	ask     bool // whether decisions count
	now     func() time.Time

	deciding *sync.Mutex
}

var _ admin.PluginTrust = pluginTrust{}

func newPluginTrust(cfg *config.Config, documents flow.Documents, plugins *pluginhost.Host) pluginTrust {
	return pluginTrust{decisions{documents}, plugins, cfg.Plugins.Trust == config.TrustAsk, time.Now, &sync.Mutex{}}
}

func (t pluginTrust) Decided(ctx context.Context, name string) (*admin.Decision, error) {
	return t.find(ctx, name)
}

func (t pluginTrust) Trust(ctx context.Context, name, sha256 string) (*admin.Decision, error) {
	t.deciding.Lock()
	defer t.deciding.Unlock()
	if !t.ask {
		return nil, sdk.Errorf(sdk.Conflict, "decisions count only with trust = %q in the block plugins", config.TrustAsk)
	}
	c, err := t.plugins.Inspect(name)
	switch {
	case errors.Is(err, pluginhost.ErrUnknown):
		return nil, sdk.Errorf(sdk.NotFound, "there is no plugin %q", name)
	case err != nil:
		return nil, err
	case c.Status == pluginhost.StatusDialled:
		return nil, sdk.Errorf(sdk.Conflict, "plugin %q is dialled at %s: it is trusted by its plugin block, and has no file", name, c.Address)
	case c.Status != pluginhost.StatusReady && c.Status != pluginhost.StatusUntrusted:
		return nil, sdk.Errorf(sdk.Conflict, "%s cannot be executed: %s: %s", c.Path, c.Status, c.Reason)
	case sha256 != "" && !strings.EqualFold(sha256, c.SHA256):
		return nil, sdk.Errorf(sdk.Conflict, "%s has the sha256 %s, not %s", c.Path, c.SHA256, sha256)
	}
	d := &admin.Decision{Plugin: name, SHA256: c.SHA256, Path: c.Path, At: t.now().UTC().Truncate(time.Second)}
	content, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if err := t.documents.PutDocument(ctx, flow.Document{Kind: decisionKind, ID: name, Content: content}); err != nil {
		return nil, err
	}
	if c, err := t.plugins.Reconsider(ctx, name); err != nil {
		d.Problem = err.Error()
	} else if c.Status != pluginhost.StatusReady {
		d.Problem = c.Reason
	}
	return d, nil
}

func (t pluginTrust) Distrust(ctx context.Context, name string) (bool, error) {
	t.deciding.Lock()
	defer t.deciding.Unlock()
	there, err := t.documents.DeleteDocument(ctx, decisionKind, "", name)
	if err != nil || !there {
		return there, err
	}
	if _, err := t.plugins.Reconsider(ctx, name); err != nil && !errors.Is(err, pluginhost.ErrUnknown) {
		return there, sdk.Errorf(sdk.Internal, "the decision is taken back, and the plugin did not stop well: %w", err)
	}
	return there, nil
}

// remoteTrust has a running host decide.
type remoteTrust struct{ to adminFlags }

var _ admin.PluginTrust = remoteTrust{}

func trustPath(name string) string { return "/api/v1/plugins/" + url.PathEscape(name) + "/trust" }

func (t remoteTrust) Decided(ctx context.Context, name string) (*admin.Decision, error) {
	var d admin.Decision
	err := t.to.get(ctx, trustPath(name), nil, &d)
	if errors.As(err, new(errNotFound)) {
		return nil, nil
	}
	return &d, err
}

func (t remoteTrust) Trust(ctx context.Context, name, sha256 string) (*admin.Decision, error) {
	body, err := json.Marshal(admin.TrustRequest{SHA256: sha256})
	if err != nil {
		return nil, err
	}
	var d admin.Decision
	_, err = t.to.call(ctx, http.MethodPut, trustPath(name), nil, bytes.NewReader(body), &d)
	return &d, err
}

func (t remoteTrust) Distrust(ctx context.Context, name string) (bool, error) {
	_, err := t.to.call(ctx, http.MethodDelete, trustPath(name), nil, nil, nil)
	if errors.As(err, new(errNotFound)) {
		return false, nil
	}
	return err == nil, err
}

// openTrust decides through the running host or, if there is none and the configuration is given, in the store. close has to be
// called.
func openTrust(ctx context.Context, to adminFlags, name string) (_ admin.PluginTrust, close func(), err error) {
	remote := remoteTrust{to}
	nothing := func() {}
	_, err = remote.Decided(ctx, name)
	if *to.config == "" || !errors.As(err, new(*url.Error)) {
		return remote, nothing, err
	}
	cfg, err := config.Load(*to.config)
	if err != nil {
		return nil, nothing, err
	}
	db, err := openStore(ctx, cfg)
	if err != nil {
		return nil, nothing, err
	}
	host, err := newPluginHost(cfg, pluginhost.Options{Decisions: decisions{db}.lookup})
	if err != nil {
		return nil, nothing, errors.Join(err, db.Close())
	}
	return newPluginTrust(cfg, db, host), func() { closeQuietly(host); db.Close() }, nil
}

// openStore opens the store of a host that does not run.
func openStore(ctx context.Context, cfg *config.Config) (*store.DB, error) {
	if err := os.MkdirAll(cfg.DataPlane.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	key, err := store.LoadKey(filepath.Join(cfg.DataPlane.DataDir, sealingKey))
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Options{Path: cfg.Store.Path, Key: key})
}

// lookup finds what was decided about the plugin of a name.
type lookup = func(name string) (pluginhost.Decision, bool, error)

// peekDecisions finds what was decided in the store of a configuration, which a running host may have open.
func peekDecisions(ctx context.Context, cfg *config.Config) lookup {
	if cfg.Plugins.Trust != config.TrustAsk {
		return nil
	}
	found, err := peek(ctx, cfg, decisionKind)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return func(name string) (pluginhost.Decision, bool, error) {
		if err != nil {
			return pluginhost.Decision{}, false, err
		}
		return forHost(decisionIn(found, name))
	}
}

// peek lists documents in the store of a configuration, which a running host may have open, and changes nothing there. The error wraps
// fs.ErrNotExist if there is no store.
func peek(ctx context.Context, cfg *config.Config, kind string) ([]flow.Document, error) {
	key, err := store.ReadKey(filepath.Join(cfg.DataPlane.DataDir, sealingKey))
	if err != nil {
		return nil, err
	}
	return store.Peek(ctx, store.Options{Path: cfg.Store.Path, Key: key}, kind)
}

package main

import (
	"context"
	"log/slog"
	"os"
	"sync"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/pluginhost"
)

// descriptionKind is the kind of the documents that keep what plugins say of themselves. Their ids are the digests of the plugins' files.
const descriptionKind = "plugin_description"

// descriptions keeps what plugins say of themselves in the store. All of it is in memory too: it is some kilobytes for each plugin.
type descriptions struct {
	documents flow.Documents // nil: nothing is kept

	mu    sync.Mutex // guards known
	known map[string][]byte
}

var _ pluginhost.Cache = (*descriptions)(nil)

func newDescriptions(documents flow.Documents, found []flow.Document) *descriptions {
	d := &descriptions{documents: documents, known: map[string][]byte{}}
	for _, document := range found {
		d.known[document.ID] = document.Content
	}
	return d
}

// loadDescriptions takes up what is in the store of this host.
func loadDescriptions(ctx context.Context, documents flow.Documents) (*descriptions, error) {
	found, err := documents.Documents(ctx, descriptionKind)
	if err != nil {
		return nil, err
	}
	return newDescriptions(documents, found), nil
}

// peekDescriptions takes up what is in the store of a configuration, which a running host may have open, and keeps nothing there. Without
// a store that can be read, all plugins have to be asked.
func peekDescriptions(ctx context.Context, cfg *config.Config) *descriptions {
	found, err := peek(ctx, cfg, descriptionKind)
	if err != nil {
		return newDescriptions(nil, nil)
	}
	return newDescriptions(nil, found)
}

func (d *descriptions) Load(_ context.Context, digest string) ([]byte, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	content, ok := d.known[digest]
	return content, ok, nil
}

func (d *descriptions) Save(ctx context.Context, digest string, content []byte) error {
	d.mu.Lock()
	d.known[digest] = content
	d.mu.Unlock()
	if d.documents == nil {
		return nil
	}
	return d.documents.PutDocument(ctx, flow.Document{Kind: descriptionKind, Context: flow.DefaultContext, ID: digest, Content: content})
}

// rescan looks at the plugin directory with every value of hangups, until ctx ends.
func rescan(ctx context.Context, plugins *pluginhost.Host, hangups <-chan os.Signal, logger *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
		}
		if err := plugins.Rescan(ctx); err != nil && ctx.Err() == nil {
			logger.Error("the plugin directory was not looked at", "err", err)
		}
	}
}

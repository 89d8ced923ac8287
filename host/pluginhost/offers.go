package pluginhost

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Source returns what reads data addresses of a type. It stays valid for the life of the Host, whatever becomes of the plugin's
// process: a call waits for a bounded time while there is none, and fails with an *sdk.Error that is Unavailable. A call whose process
// ends fails in the same way, retryable, and says how the process ended.
//
// The error is an *sdk.Error, Invalid, that lists the types there are.
func (h *Host) Source(typ string) (sdk.DataSource, error) {
	s, err := h.find("source", h.sources, typ)
	if err != nil {
		return nil, err
	}
	return &source{s, typ}, nil
}

// Sink returns what writes to data addresses of a type, in the way that Source does.
func (h *Host) Sink(typ string) (sdk.DataSink, error) {
	s, err := h.find("sink", h.sinks, typ)
	if err != nil {
		return nil, err
	}
	return &sink{s, typ}, nil
}

// ResumesInside reports whether the sink of a type can go on in the middle of a part.
func (h *Host) ResumesInside(typ string) bool {
	s, err := h.find("sink", h.sinks, typ)
	if err != nil {
		return false
	}
	t, _ := s.describe().Sink(typ)
	return t.Resumable
}

// InOneStore reports whether a store can copy what goes from one address to the other: both are of one plugin, its settings allow it, and
// the plugin says that they lie in the same store.
func (h *Host) InOneStore(ctx context.Context, from, to sdk.DataAddress) bool {
	s, err := h.find("source", h.sources, from.Type)
	if err != nil || !s.settings.ServerSideCopy {
		return false
	}
	other, err := h.find("sink", h.sinks, to.Type)
	if err != nil || other != s {
		return false
	}
	d := s.describe()
	reads, _ := d.Source(from.Type)
	writes, _ := d.Sink(to.Type)
	if !reads.Copies || !writes.Copies {
		return false
	}
	same, err := sameStore(ctx, &source{s, from.Type}, from, &sink{s, to.Type}, to)
	if err != nil && ctx.Err() == nil {
		h.log.Warn("plugin does not say in which store an address lies, so bytes move", "plugin", s.Name, "err", err)
	}
	return same
}

func sameStore(ctx context.Context, source sdk.DataSource, from sdk.DataAddress, sink sdk.DataSink, to sdk.DataAddress) (bool, error) {
	a, err := source.Store(ctx, from)
	if err != nil || a == "" {
		return false, err
	}
	b, err := sink.Store(ctx, to)
	return a == b && err == nil, err
}

// CheckSource says what is wrong with a data address to read from: an unknown type, what the schema of the type refuses, or what the
// plugin refuses. The error is an *sdk.Error.
func (h *Host) CheckSource(ctx context.Context, a sdk.DataAddress) error {
	s, err := h.find("source", h.sources, a.Type)
	if err != nil {
		return err
	}
	t, _ := s.describe().Source(a.Type)
	return check(ctx, t, &source{s, a.Type}, a)
}

// CheckSink says what is wrong with a data address to write to, in the way that CheckSource does.
func (h *Host) CheckSink(ctx context.Context, a sdk.DataAddress) error {
	s, err := h.find("sink", h.sinks, a.Type)
	if err != nil {
		return err
	}
	t, _ := s.describe().Sink(a.Type)
	return check(ctx, t, &sink{s, a.Type}, a)
}

func check(ctx context.Context, t sdk.AddressType, v sdk.Validator, a sdk.DataAddress) error {
	if err := sdk.InvalidFields(t.Address.Check(a)); err != nil {
		return err
	}
	if err := v.Validate(ctx, a); err != nil {
		return sdk.AsError(err)
	}
	return nil
}

// find returns the plugin for a type.
func (h *Host) find(kind string, known map[string]*supervisor, typ string) (*supervisor, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := known[typ]; ok {
		return s, nil
	}
	if len(known) == 0 {
		return nil, sdk.Errorf(sdk.Invalid, "no plugin offers the %s type %q, nor any other", kind, typ)
	}
	types := slices.Sorted(maps.Keys(known))
	return nil, sdk.Errorf(sdk.Invalid, "no plugin offers the %s type %q; there are: %s", kind, typ, strings.Join(types, ", "))
}

// describe returns what the plugin said of itself when it was launched last.
func (s *supervisor) describe() sdk.Description {
	st, _ := s.snapshot()
	if st.description == nil {
		return sdk.Description{}
	}
	return *st.description
}

package pluginhost

import (
	"context"
	"errors"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Source returns what reads data addresses of a type. It stays valid for the life of the Host, whatever becomes of the plugin and its
// process: a call launches the process if none was needed before, waits for a bounded time while there is none, and fails with an
// *sdk.Error that is Unavailable; it wraps ErrWithdrawn if no plugin offers the type at present. A call whose process ends fails in the
// same way, retryable, and says how the process ended.
//
// The error is an *sdk.Error, Invalid, that lists the types there are: no plugin offers this one, none has, and the directory is not
// watched for one that will.
func (h *Host) Source(typ string) (sdk.DataSource, error) {
	if _, err := h.find(offering{asSource, typ}); err != nil && !h.mayCome(err) {
		return nil, err
	}
	return &source{h, typ}, nil
}

// Sink returns what writes to data addresses of a type, in the way that Source does.
func (h *Host) Sink(typ string) (sdk.DataSink, error) {
	if _, err := h.find(offering{asSink, typ}); err != nil && !h.mayCome(err) {
		return nil, err
	}
	return &sink{h, typ}, nil
}

// mayCome says whether what find did not find can be had later.
func (h *Host) mayCome(err error) bool {
	return h.options.Watch || h.dials() || errors.Is(err, ErrWithdrawn)
}

// ResumesInside reports whether the sink of a type can go on in the middle of a part.
func (h *Host) ResumesInside(typ string) bool {
	s, err := h.find(offering{asSink, typ})
	if err != nil {
		return false
	}
	t, _ := s.describe().Sink(typ)
	return t.Resumable
}

// Proxies reports whether the source of a type hands requests on. Of one that no plugin offers at the moment it says so: what is asked of
// it then fails with the reason.
func (h *Host) Proxies(typ string) bool {
	s, err := h.find(offering{asSource, typ})
	if err != nil {
		return true
	}
	t, known := s.describe().Source(typ)
	return t.Proxies || !known
}

// InOneStore reports whether a store can copy what goes from one address to the other: both are of one plugin, its settings allow it, and
// the plugin says that they lie in the same store.
func (h *Host) InOneStore(ctx context.Context, from, to sdk.DataAddress) bool {
	s, err := h.find(offering{asSource, from.Type})
	if err != nil || !s.settings.ServerSideCopy {
		return false
	}
	other, err := h.find(offering{asSink, to.Type})
	if err != nil || other != s {
		return false
	}
	d := s.describe()
	reads, _ := d.Source(from.Type)
	writes, _ := d.Sink(to.Type)
	if !reads.Copies || !writes.Copies {
		return false
	}
	same, err := sameStore(ctx, &source{h, from.Type}, from, &sink{h, to.Type}, to)
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
	s, err := h.find(offering{asSource, a.Type})
	if err != nil {
		return err
	}
	t, _ := s.describe().Source(a.Type)
	return check(ctx, t, &source{h, a.Type}, a)
}

// CheckSink says what is wrong with a data address to write to, in the way that CheckSource does.
func (h *Host) CheckSink(ctx context.Context, a sdk.DataAddress) error {
	s, err := h.find(offering{asSink, a.Type})
	if err != nil {
		return err
	}
	t, _ := s.describe().Sink(a.Type)
	return check(ctx, t, &sink{h, a.Type}, a)
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

// describe returns what the plugin said of itself when it was launched last.
func (s *supervisor) describe() sdk.Description {
	st, _ := s.snapshot()
	if st.description == nil {
		return sdk.Description{}
	}
	return *st.description
}

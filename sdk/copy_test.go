package sdk_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

// copier is a sink whose author's code is a function of one part.
type copier struct {
	write func(p *sdk.IncomingPart) error
}

func (c copier) Store(context.Context, sdk.DataAddress) (string, error) { return "store", nil }

func (c copier) Write(_ context.Context, _ sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	for p, err := range parts {
		if err != nil {
			return err
		}
		if err := c.write(p); err != nil {
			return err
		}
	}
	return nil
}

// referred sends a part with a reference to a sink, and returns what the sink said.
func referred(t *testing.T, sink sdk.Sink, frames ...sdk.Frame) ([]sdk.Up, error) {
	t.Helper()
	w, err := sdk.NewDataSink(sdk.SinkType{AddressType: sdk.AddressType{Type: "X"}, Sink: sink}).
		Write(t.Context(), sdk.WriteOpen{Address: sdk.DataAddress{Type: "X"}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, f := range frames {
			if w.Send(f) != nil {
				return
			}
		}
	}()
	defer func() { <-sent }()
	var ups []sdk.Up
	for {
		up, err := w.Recv()
		if err == io.EOF {
			return ups, nil
		}
		if err != nil {
			return ups, err
		}
		ups = append(ups, up)
	}
}

func begin(reference string) *sdk.PartBegin {
	return &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "part", Size: 3, Reference: []byte(reference)}}
}

func TestCopiesAreHeldToTheirContract(t *testing.T) {
	whole := func(p *sdk.IncomingPart) error {
		if err := p.CopiedAll(nil); err != nil {
			return err
		}
		p.Commit("there")
		return nil
	}
	end, done := &sdk.PartEnd{Size: 3}, &sdk.End{Totals: sdk.Totals{Parts: 1, Bytes: 3}}
	for _, tt := range []struct {
		name   string
		sink   sdk.Sink
		frames []sdk.Frame
		code   sdk.Code // "" if it is well
	}{
		{"well", copier{whole}, []sdk.Frame{begin("r"), &sdk.Checkpoint{Sequence: 1}, end, done}, ""},
		{"without a checkpoint", copier{whole}, []sdk.Frame{begin("r"), end, done}, ""},
		{"no copier", struct{ sdk.Sink }{copier{whole}}, []sdk.Frame{begin("r"), end, done}, sdk.NotCopied},
		{"refused", copier{func(*sdk.IncomingPart) error { return sdk.Errorf(sdk.NotCopied, "no") }}, []sdk.Frame{begin("r"), end, done}, sdk.NotCopied},
		{"not copied", copier{func(*sdk.IncomingPart) error { return nil }}, []sdk.Frame{begin("r"), end, done}, sdk.Internal},
		{"copied too much", copier{func(p *sdk.IncomingPart) error { return p.Copied(4, nil) }}, []sdk.Frame{begin("r"), end, done}, sdk.Internal},
		{"read", copier{func(p *sdk.IncomingPart) error { _, err := io.Copy(io.Discard, p); return err }}, []sdk.Frame{begin("r"), end, done},
			sdk.Internal},
		{"payload", copier{whole}, []sdk.Frame{begin("r"), &sdk.Data{Payload: sdk.BytesPayload("abc")}, end, done}, sdk.Internal},
		{"another size", copier{whole}, []sdk.Frame{begin("r"), &sdk.PartEnd{Size: 4}, done}, sdk.Corrupt},
		{"no size", copier{whole}, []sdk.Frame{&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "part", Size: sdk.SizeUnknown, Reference: []byte("r")}},
			end, done}, sdk.Corrupt},
		{"other digests", copier{func(p *sdk.IncomingPart) error { return p.CopiedAll(sdk.Digests{sdk.CRC32C: {1, 2, 3, 4}}) }},
			[]sdk.Frame{begin("r"), &sdk.PartEnd{Size: 3, Digests: sdk.Digests{sdk.CRC32C: {4, 3, 2, 1}}}, done}, sdk.Corrupt},
		{"bytes", copier{func(p *sdk.IncomingPart) error { return p.CopiedAll(nil) }},
			[]sdk.Frame{&sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "part"}}, &sdk.PartEnd{}, done}, sdk.Internal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ups, err := referred(t, tt.sink, tt.frames...)
			switch {
			case tt.code == "" && err != nil:
				t.Fatal(err)
			case tt.code != "" && (err == nil || sdk.AsError(err).Code != tt.code):
				t.Fatalf("error %v, want code %q", err, tt.code)
			case tt.code != "":
				return
			}
			if len(ups) != 3 || *ups[0].(*sdk.Copied) != (sdk.Copied{Bytes: 3}) || ups[1].(*sdk.PartWritten).Size != 3 {
				t.Errorf("the sink said %v", ups)
			}
		})
	}
}

// unsaid is a source whose parts have references that cannot be used.
type unsaid struct{ parts []sdk.Part }

func (u unsaid) Read(context.Context, sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		for _, p := range u.parts {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func TestBytesAreSentWhereAReferenceCannotBe(t *testing.T) {
	part := func(name string, size int64, reference []byte) sdk.Part {
		p := sdk.BytesPart(name, "", []byte("abc"))
		p.Size, p.Reference = size, reference
		return p
	}
	source := sdk.NewDataSource(sdk.SourceType{AddressType: sdk.AddressType{Type: "X"}, Source: unsaid{[]sdk.Part{
		part("none", 3, nil), part("size", sdk.SizeUnknown, []byte("r")), part("long", 3, make([]byte, sdk.MaxReference+1)), part("well", 3, []byte("r")),
	}}})
	r, err := source.Read(t.Context(), sdk.ReadOpen{Address: sdk.DataAddress{Type: "X"}, ByReference: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sent, name := map[string]string{}, ""
	for {
		f, err := r.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *sdk.PartBegin:
			name = f.Name
			sent[name] = string(f.Reference)
		case *sdk.Data:
			sent[name] += "bytes"
		}
		sdk.Release(f)
	}
	for name, want := range map[string]string{"none": "bytes", "size": "bytes", "long": "bytes", "well": "r"} {
		if sent[name] != want {
			t.Errorf("of part %q came %q, want %q", name, sent[name], want)
		}
	}
}

package verify

import (
	"bytes"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// lineWriter cuts what is written to it into lines, and cuts long lines off.
type lineWriter struct {
	take func(line string)
	open []byte
}

func (l *lineWriter) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if len(l.open) < 8<<10 {
			l.open = append(l.open, line...)
		}
		if rest = after; whole {
			l.take(string(l.open))
			l.open = l.open[:0]
		}
	}
	return len(b), nil
}

// rawMessage is a message as it is on the wire.
type rawMessage struct{ bytes []byte }

// rawCodec passes rawMessages. It keeps the name of protobuf's codec, so that a plugin takes what comes for protobuf.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(*rawMessage).bytes)}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	v.(*rawMessage).bytes = data.Materialize()
	return nil
}

// parseOutput reads go-plugin's StdioData: 1 channel (1 is stdout), 2 data.
func parseOutput(b []byte) (channel uint64, data []byte) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return channel, data
		}
		b = b[n:]
		switch {
		case number == 1 && kind == protowire.VarintType:
			channel, n = protowire.ConsumeVarint(b)
		case number == 2 && kind == protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return channel, data
		}
		b = b[n:]
	}
	return channel, data
}

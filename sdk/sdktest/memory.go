package sdktest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/towpath-dataplane/towpath/sdk"
)

// MemoryType is the type of the data addresses that a Memory reads and writes.
const MemoryType = "Memory"

// Memory is a source and a sink that keep parts in memory. It does what a real pair does: it resumes at any offset, continues parts
// in their middle, refuses to overwrite, and shows a part under its name only when it is whole. All methods may be called
// concurrently.
//
// The zero value is empty and ready to use; the exported fields are not changed after that.
type Memory struct {
	// Reading and Writing, if set, are called before each piece of a part moves, and before its end.
	Reading, Writing Hook
	// Copying is the same for a part that is copied within the memory. An error with code NotCopied refuses that.
	Copying Hook
	// Piece is the most bytes between two calls of a Hook. 0: 64 KiB.
	Piece int

	mu    sync.Mutex // guards what follows
	parts map[string]memoryPart
	begun map[begunPart]memoryPart // as of the last checkpoint in the part, kept until Deprovision
	next  int                      // version of the next part that is stored
}

var (
	_ sdk.Source        = (*Memory)(nil)
	_ sdk.Sink          = (*Memory)(nil)
	_ sdk.Deprovisioner = (*Memory)(nil)
)

// memoryPart is immutable once it is in a map, but for room behind its content.
type memoryPart struct {
	info    sdk.PartInfo
	content []byte
	records []sdk.Record
}

type begunPart struct{ context, flow, name string }

// Address returns a data address for the parts in a folder, "" for all.
func (m *Memory) Address(folder string) sdk.DataAddress {
	a := sdk.DataAddress{Type: MemoryType}
	if folder != "" {
		a.Properties = map[string]string{"folder": folder}
	}
	return a
}

// Plugin returns a plugin named "memory" that offers m as its only source and sink.
func (m *Memory) Plugin() sdk.Plugin {
	return sdk.Plugin{
		Name: "memory", Version: "1.0.0", Documentation: "Parts in memory, for tests.",
		Sources: []sdk.SourceType{m.sourceType()},
		Sinks:   []sdk.SinkType{m.sinkType()},
	}
}

// DataSource returns m as a host sees it.
func (m *Memory) DataSource() sdk.DataSource { return sdk.NewDataSource(m.sourceType()) }

// DataSink returns m as a host sees it.
func (m *Memory) DataSink() sdk.DataSink { return sdk.NewDataSink(m.sinkType()) }

func (m *Memory) sourceType() sdk.SourceType {
	return sdk.SourceType{Source: m, AddressType: sdk.AddressType{
		Type: MemoryType, Documentation: "Parts in memory.", Resumable: true,
		Address: sdk.Schema{Fields: []sdk.Field{folderField}},
	}}
}

func (m *Memory) sinkType() sdk.SinkType {
	return sdk.SinkType{Sink: m, AddressType: sdk.AddressType{
		Type: MemoryType, Documentation: "Parts in memory.", Resumable: true,
		Address: sdk.Schema{Fields: []sdk.Field{folderField, {
			Name: "collision", OneOf: []string{"fail", "replace"}, Default: "fail",
			Documentation: "What happens to a part whose name is taken.",
		}}},
	}}
}

var folderField = sdk.Field{Name: "folder", Documentation: "Folder of the parts. Without it: all."}

// Put stores a part, replacing one of the same name.
func (m *Memory) Put(name string, content []byte) {
	m.store(name, memoryPart{
		info:    sdk.PartInfo{Size: int64(len(content)), MediaType: "application/octet-stream"},
		content: content,
	})
}

// PutRecords stores a part that carries records, replacing one of the same name.
func (m *Memory) PutRecords(name string, records []sdk.Record) {
	m.store(name, memoryPart{info: sdk.PartInfo{Size: sdk.SizeUnknown, Records: true}, records: records})
}

// Content returns the bytes of a part, or an *sdk.Error with code NotFound.
func (m *Memory) Content(name string) ([]byte, error) {
	p, err := m.part(name)
	return p.content, err
}

// Records returns the records of a part. The error is as for Content.
func (m *Memory) Records(name string) ([]sdk.Record, error) {
	p, err := m.part(name)
	return p.records, err
}

// Info returns what is known about a part. The error is as for Content.
func (m *Memory) Info(name string) (sdk.PartInfo, error) {
	p, err := m.part(name)
	return p.info, err
}

// Names lists the parts that are whole, in order.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.parts))
}

// Begun lists what is kept of parts so that they can be continued, as context/flow/name, in order.
func (m *Memory) Begun() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for k := range m.begun {
		names = append(names, path.Join(k.context, k.flow, k.name))
	}
	slices.Sort(names)
	return names
}

func (m *Memory) part(name string) (memoryPart, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.parts[name]
	if !ok {
		return p, sdk.Errorf(sdk.NotFound, "there is no part %q", name)
	}
	return p, nil
}

func (m *Memory) store(name string, p memoryPart) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.storeLocked(name, p)
}

func (m *Memory) storeLocked(name string, p memoryPart) {
	if m.parts == nil {
		m.parts = map[string]memoryPart{}
	}
	m.next++
	p.info.Name, p.info.Validator = name, strconv.Itoa(m.next)
	m.parts[name] = p
}

func (m *Memory) piece() int {
	if m.Piece > 0 {
		return m.Piece
	}
	return 64 << 10
}

// Read yields the parts of the address's folder in the order of their names.
func (m *Memory) Read(ctx context.Context, req sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		folder := req.Address.Get("folder")
		parts := m.folder(folder)
		if len(parts) == 0 && folder != "" {
			yield(sdk.Part{}, sdk.Errorf(sdk.NotFound, "there is no folder %q", folder))
			return
		}
		gate := &hooked{hook: m.Reading, at: Point{Flow: req.Flow}, piece: m.piece()}
		for _, p := range parts {
			p.info.TotalParts = len(parts)
			if req.ByReference && !p.info.Records {
				p.info.Reference = referTo(folder, p.info)
			}
			part := sdk.Part{PartInfo: p.info}
			if p.info.Records {
				part.OpenRecords = func(_ context.Context, token []byte) (sdk.RecordReader, error) {
					return gate.openRecords(p, token)
				}
			} else {
				part.Open = func(ctx context.Context, offset int64) (io.ReadCloser, error) {
					return gate.open(ctx, p, offset)
				}
			}
			if !yield(part, nil) {
				return
			}
		}
	}
}

// folder returns the parts of a folder by name, named relative to it.
func (m *Memory) folder(folder string) []memoryPart {
	m.mu.Lock()
	defer m.mu.Unlock()
	var parts []memoryPart
	for _, name := range slices.Sorted(maps.Keys(m.parts)) {
		p := m.parts[name]
		if folder != "" {
			rest, ok := strings.CutPrefix(name, folder+"/")
			if !ok {
				continue
			}
			p.info.Name = rest
		}
		parts = append(parts, p)
	}
	return parts
}

// Write stores the parts of a flow, each when it is whole.
func (m *Memory) Write(ctx context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	gate := &hooked{hook: m.Writing, at: Point{Flow: req.Flow}, piece: m.piece()}
	for p, err := range parts {
		if err != nil {
			return err
		}
		if err := m.writePart(ctx, req, p, gate); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
	}
	return nil
}

func (m *Memory) writePart(ctx context.Context, req sdk.WriteRequest, in *sdk.IncomingPart, gate *hooked) error {
	if in.Reference != nil {
		part, err := m.copyPart(ctx, req, in, &hooked{hook: m.Copying, at: gate.at, piece: gate.piece})
		if err != nil {
			return err
		}
		return m.finish(req, in, part)
	}
	part, err := m.begin(req.Flow, in)
	if err != nil {
		return err
	}
	in.OnCheckpoint(func() ([]byte, error) { return m.keep(req.Flow, in.Name, part), nil })
	gate.at.Part, gate.at.Offset = in.Name, int64(len(part.content))
	if in.PartInfo.Records {
		err = gate.receiveRecords(ctx, in, &part)
	} else {
		err = gate.receive(ctx, in, &part)
	}
	if err != nil {
		if !sdk.AsError(err).Retryable {
			m.drop(req.Flow, in.Name)
		}
		return err
	}
	return m.finish(req, in, part)
}

// finish shows a whole part under its name.
func (m *Memory) finish(req sdk.WriteRequest, in *sdk.IncomingPart, part memoryPart) error {
	name := path.Join(req.Address.Get("folder"), in.Name)
	overwrite := req.Address.Get("collision") == "replace"
	if err := m.commit(name, part, overwrite, req.Redelivery); err != nil {
		return err
	}
	in.Commit("memory:" + name)
	return nil
}

// begin returns what an earlier run of the flow kept of the part: nothing unless the part goes on in its middle.
func (m *Memory) begin(flow sdk.FlowContext, in *sdk.IncomingPart) (memoryPart, error) {
	if in.Token == nil {
		return memoryPart{info: in.PartInfo}, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	kept, ok := m.begun[begunPart{flow.ParticipantContext, flow.ID, in.Name}]
	var bytes, records int
	if _, err := fmt.Sscanf(string(in.Token), "%d %d", &bytes, &records); err != nil {
		return kept, sdk.Errorf(sdk.Invalid, "not a token of this sink")
	}
	if !ok || bytes > len(kept.content) || records > len(kept.records) {
		return kept, sdk.Errorf(sdk.Corrupt, "what was written before offset %d is gone", in.Offset)
	}
	kept.content, kept.records = kept.content[:bytes:bytes], kept.records[:records:records]
	return kept, nil
}

// keep remembers the part as it is and returns the token for that.
func (m *Memory) keep(flow sdk.FlowContext, name string, p memoryPart) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun == nil {
		m.begun = map[begunPart]memoryPart{}
	}
	m.begun[begunPart{flow.ParticipantContext, flow.ID, name}] = p
	return fmt.Appendf(nil, "%d %d", len(p.content), len(p.records))
}

// drop forgets what was kept of a part that cannot go on.
func (m *Memory) drop(flow sdk.FlowContext, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.begun, begunPart{flow.ParticipantContext, flow.ID, name})
}

// commit stores a whole part, unless the name is taken.
func (m *Memory) commit(name string, p memoryPart, overwrite, redelivery bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, taken := m.parts[name]
	if taken && !overwrite {
		if redelivery && old.equal(p) {
			return nil
		}
		return sdk.Errorf(sdk.Conflict, "there is another %q", name)
	}
	m.storeLocked(name, p)
	return nil
}

func (p memoryPart) equal(other memoryPart) bool {
	return bytes.Equal(p.content, other.content) && slices.EqualFunc(p.records, other.records, func(x, y sdk.Record) bool {
		return bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Value, y.Value)
	})
}

// Deprovision forgets what was kept for the flow.
func (m *Memory) Deprovision(_ context.Context, flow sdk.FlowContext, _ sdk.DataAddress) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.begun, func(k begunPart, _ memoryPart) bool {
		return k.context == flow.ParticipantContext && k.flow == flow.ID
	})
	return nil
}

package sdktest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/towpath-dataplane/towpath/sdk"
)

var _ sdk.Copier = (*Memory)(nil)

// Store names the memory: all addresses of one lie in it.
func (m *Memory) Store(context.Context, sdk.DataAddress) (string, error) {
	return fmt.Sprintf("memory-%p", m), nil
}

// memoryReference is what a part of a Memory is copied by.
type memoryReference struct{ Name, Validator string }

func referTo(folder string, info sdk.PartInfo) []byte {
	name := info.Name
	if folder != "" {
		name = folder + "/" + name
	}
	text, err := json.Marshal(memoryReference{name, info.Validator})
	if err != nil {
		panic(err)
	}
	return text
}

// copyPart copies a part from elsewhere in the memory, piece by piece.
func (m *Memory) copyPart(ctx context.Context, req sdk.WriteRequest, in *sdk.IncomingPart, gate *hooked) (memoryPart, error) {
	var from memoryReference
	if err := json.Unmarshal(in.Reference, &from); err != nil {
		return memoryPart{}, sdk.Errorf(sdk.NotCopied, "this is not a reference to a part of this memory")
	}
	info := in.PartInfo
	info.Reference = nil
	to := memoryPart{info: info}
	if fields := strings.Fields(string(in.Token)); len(fields) == 3 && fields[2] == from.Validator {
		var err error
		if to, err = m.begin(req.Flow, in); err != nil {
			return to, err
		}
	}
	gate.at.Part, gate.at.Offset = in.Name, int64(len(to.content))
	for {
		if err := gate.wait(ctx); err != nil {
			return to, interrupted(ctx, err)
		}
		source, err := m.part(from.Name)
		if err != nil {
			return to, err
		}
		if source.info.Validator != from.Validator {
			return to, sdk.Retryf(sdk.Corrupt, "the part has changed since it was announced")
		}
		at := len(to.content)
		if at == len(source.content) {
			return to, in.CopiedAll(digests(to.content))
		}
		piece := source.content[at:min(at+gate.piece, len(source.content))]
		to.content = append(to.content, piece...)
		gate.moved(int64(len(piece)))
		token := fmt.Appendf(m.keep(req.Flow, in.Name, to), " %s", from.Validator)
		if err := in.Copied(int64(len(to.content)), token); err != nil {
			return to, err
		}
	}
}

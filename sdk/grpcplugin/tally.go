package grpcplugin

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"sync"

	"github.com/towpath-dataplane/towpath/sdk"
)

// computes notes which digests the plugin computes. Until it has said so it is taken to compute all that it is asked for.
func (c *Client) computes(algorithms []sdk.Algorithm) { c.digests.Store(&algorithms) }

// share divides the digests that are wanted between the plugin and this host.
func (c *Client) share(wanted []sdk.Algorithm) (plugins, ours []sdk.Algorithm) {
	known := c.digests.Load()
	if known == nil {
		return wanted, nil
	}
	for _, a := range wanted {
		if slices.Contains(*known, a) {
			plugins = append(plugins, a)
		} else {
			ours = append(ours, a)
		}
	}
	return plugins, ours
}

// tally computes, over the parts of one stream, the digests that a plugin does not compute. Its state travels in the tokens of
// checkpoints, so that a part can go on in its middle. A nil tally computes nothing. It is for one goroutine, but for answer and receipt.
type tally struct {
	algorithms []sdk.Algorithm
	former     *tallied // the state that the stream goes on from, until the first part begins

	index  uint64
	name   string
	digest *sdk.Digester // of the part that is open; nil if it has none, or what came before is not known

	mu    sync.Mutex // guards what follows
	marks []tallyMark
	sums  map[uint64]sdk.Digests // of parts that the sink has not acknowledged
}

// tallied is a tally put to rest inside a part.
type tallied struct {
	Index uint64          `json:"index"`
	State sdk.DigestState `json:"state"`
}

// tallyMark is a checkpoint that the sink has not answered.
type tallyMark struct {
	sequence uint64
	state    []byte
}

// newTally returns nil if there is nothing to compute.
func newTally(algorithms []sdk.Algorithm, former *tallied) *tally {
	if len(algorithms) == 0 {
		return nil
	}
	return &tally{algorithms: algorithms, former: former, sums: map[uint64]sdk.Digests{}}
}

// begin begins a part. One that goes on where the state does not lie has no digest: what came before is not known.
func (t *tally) begin(p *sdk.PartBegin) {
	former := t.former
	t.former, t.digest, t.index, t.name = nil, nil, p.Index, p.Name
	switch {
	case p.Reference != nil:
	case former != nil && former.Index == p.Index && former.State.Size == p.Offset:
		if d, err := former.State.Digester(); err == nil {
			t.digest = d
		}
	case p.Offset == 0:
		t.digest = sdk.NewDigester(t.algorithms...)
	}
}

// payload adds what a frame carries.
func (t *tally) payload(f sdk.Frame) error {
	if t.digest == nil {
		return nil
	}
	switch f := f.(type) {
	case *sdk.Data:
		_, err := f.WriteTo(t.digest)
		return err
	case *sdk.RecordBatch:
		records, err := f.Records()
		if err != nil {
			return sdk.Errorf(sdk.Corrupt, "batch of records: %v", err)
		}
		t.digest.WriteRecords(records)
	}
	return nil
}

// end returns the digests of the part that ends, nil if it has none: also if only a piece of it was read.
func (t *tally) end(p *sdk.PartEnd) sdk.Digests {
	digest := t.digest
	t.digest = nil
	if digest == nil || digest.Size() != p.Size {
		return nil
	}
	return digest.Sum()
}

// state is what goes into a token.
func (t *tally) state() []byte {
	if t.digest == nil {
		return nil
	}
	state, err := json.Marshal(tallied{t.index, t.digest.State()})
	if err != nil {
		return nil
	}
	return state
}

// received sees a frame that comes from a source, and adds to it what the source leaves to its host.
func (t *tally) received(f sdk.Frame) error {
	if t == nil {
		return nil
	}
	switch f := f.(type) {
	case *sdk.PartBegin:
		t.begin(f)
	case *sdk.PartEnd:
		f.Digests = merge(f.Digests, t.end(f))
	case *sdk.Checkpoint:
		f.Token = sealTally(t.state(), f.Token)
	default:
		return t.payload(f)
	}
	return nil
}

// sent sees a frame that goes to a sink, and compares, in the sink's place, a part with what was announced of it.
func (t *tally) sent(f sdk.Frame) error {
	if t == nil {
		return nil
	}
	switch f := f.(type) {
	case *sdk.PartBegin:
		t.begin(f)
	case *sdk.PartEnd:
		sum := t.end(f)
		if err := f.Digests.Compare(sum); err != nil {
			e := sdk.Errorf(sdk.Corrupt, "part %q: %w", t.name, err)
			e.Part = t.name
			return e
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.sums[t.index] = sum
	case *sdk.Checkpoint:
		t.mu.Lock()
		defer t.mu.Unlock()
		t.marks = append(t.marks, tallyMark{f.Sequence, t.state()})
	default:
		return t.payload(f)
	}
	return nil
}

// said sees what a sink says, and adds to it what the sink leaves to its host.
func (t *tally) said(up sdk.Up) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch up := up.(type) {
	case *sdk.PartWritten:
		up.Digests = merge(up.Digests, t.sums[up.Index])
		delete(t.sums, up.Index)
	case *sdk.Durable:
		for i, m := range t.marks {
			if m.sequence == up.Sequence {
				up.Token = sealTally(m.state, up.Token)
				t.marks = slices.Delete(t.marks, 0, i) // it may come again
				return
			}
		}
	}
}

// merge adds digests that are not there.
func merge(known, more sdk.Digests) sdk.Digests {
	for a, v := range more {
		if known == nil {
			known = sdk.Digests{}
		}
		if known[a] == nil {
			known[a] = v
		}
	}
	return known
}

// tallySeal begins a token that carries the state of a tally. What follows is the state, behind its length, and the plugin's token.
var tallySeal = []byte("\x00towpath.tally\x00")

func sealTally(state, token []byte) []byte {
	if len(state) == 0 {
		return token
	}
	sealed := binary.AppendUvarint(bytes.Clone(tallySeal), uint64(len(state)))
	return append(append(sealed, state...), token...)
}

// openTally returns the plugin's own token, and the state that came with it, nil if there is none.
func openTally(token []byte) (*tallied, []byte, error) {
	rest, ok := bytes.CutPrefix(token, tallySeal)
	if !ok {
		return nil, token, nil
	}
	size, n := binary.Uvarint(rest)
	if n <= 0 || size > uint64(len(rest)-n) {
		return nil, nil, errTally
	}
	state, token := rest[n:n+int(size)], rest[n+int(size):]
	t := &tallied{}
	if err := json.Unmarshal(state, t); err != nil || t.State.Size < 0 {
		return nil, nil, errTally
	}
	return t, token, nil
}

var errTally = sdk.Errorf(sdk.Invalid, "this is not a resume token of this host")

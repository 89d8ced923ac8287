package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
)

// patienceForGarbage is how long a plugin may take to refuse one message.
const patienceForGarbage = 10 * time.Second

// raw makes a call with messages as they are, and returns the answers and how it ended.
func (p *process) raw(ctx context.Context, method string, messages ...[]byte) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patienceForGarbage)
	defer cancel()
	stream, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method,
		grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallSendMsgSize(64<<20))
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if err := stream.SendMsg(&rawMessage{m}); err != nil {
			break // the reception says why
		}
	}
	stream.CloseSend()
	var answers [][]byte
	for {
		var m rawMessage
		if err := stream.RecvMsg(&m); err == io.EOF {
			return answers, nil
		} else if err != nil {
			return answers, err
		}
		answers = append(answers, m.bytes)
	}
}

// methods are those that a plugin serves, by what it offers.
func (t *trial) methods() []string {
	all := []string{"Plugin/Describe", "Plugin/Configure", "Plugin/Health", "Plugin/Drain"}
	if len(t.description.SourceTypes) > 0 {
		all = append(all, "DataSource/Validate", "DataSource/Read")
	}
	if len(t.description.SinkTypes) > 0 {
		all = append(all, "DataSink/Validate", "DataSink/Write", "DataSink/Provision", "DataSink/Deprovision")
	}
	for i, m := range all {
		all[i] = "/towpath.plugin.v1." + m
	}
	return all
}

// survives checks the end of a call that made no sense: it was refused, in time, and the process lives.
func (p *process) survives(ctx context.Context, what string, err error) error {
	if status.Code(err) == codes.DeadlineExceeded {
		return fmt.Errorf("%s: no answer within %s", what, patienceForGarbage)
	}
	if answer := p.answers(ctx); answer != nil {
		return fmt.Errorf("%s: %w", what, answer)
	}
	return nil
}

// Messages that are no protobuf: a length beyond the end, a tag of field 0, a varint without an end, a group that is never closed.
var malformed = [][]byte{{0x0a, 0xff}, {0x02, 0x01}, {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, {0x0b}, []byte("GET / HTTP/1.1")}

func garbageMalformed(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	for _, method := range t.methods() {
		for _, message := range malformed {
			what := fmt.Sprintf("%q to %s", message, method)
			answers, err := p.raw(t.ctx, method, message)
			if err == nil && !refusedInside(answers) {
				return fmt.Errorf("%s was accepted", what)
			}
			if err := p.survives(t.ctx, what, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// refusedInside says whether the only answer is an Error of the protocol, as a stream has it.
func refusedInside(answers [][]byte) bool {
	if len(answers) != 1 {
		return false
	}
	var f pluginv1.Frame
	var up pluginv1.WriteUp
	return proto.Unmarshal(answers[0], &f) == nil && f.GetError() != nil || proto.Unmarshal(answers[0], &up) == nil && up.GetError() != nil
}

func garbageUnknownFields(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	message := protowire.AppendString(protowire.AppendTag(nil, 1999, protowire.BytesType), "from a later version")
	answers, err := p.raw(t.ctx, "/towpath.plugin.v1.Plugin/Describe", message)
	if err != nil || len(answers) != 1 {
		return fmt.Errorf("asked to Describe with a field of a later version: %d answers: %w", len(answers), p.explain(err))
	}
	var d pluginv1.DescribeResponse
	if err := proto.Unmarshal(answers[0], &d); err != nil || !proto.Equal(&d, t.description) {
		return errors.New("asked to Describe with a field of a later version has another answer")
	}
	if _, err := p.raw(t.ctx, "/towpath.plugin.v1.Plugin/Health", message); err != nil {
		return fmt.Errorf("asked for Health with a field of a later version: %w", p.explain(err))
	}
	return nil
}

func garbageOversized(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	huge := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte(strings.Repeat("x", 24<<20)))
	for _, method := range t.methods() {
		if !strings.HasSuffix(method, "Describe") && !strings.HasSuffix(method, "Read") && !strings.HasSuffix(method, "Write") {
			continue
		}
		answers, err := p.raw(t.ctx, method, huge)
		what := "a message of 24 MiB to " + method
		if err == nil && !refusedInside(answers) {
			return fmt.Errorf("%s was accepted", what)
		}
		if err := p.survives(t.ctx, what, err); err != nil {
			return err
		}
	}
	return nil
}

func garbageMethods(t *trial) error {
	p, err := t.plugin()
	if err != nil {
		return err
	}
	for _, method := range []string{"/towpath.plugin.v1.Plugin/Explode", "/towpath.plugin.v9.Plugin/Describe"} {
		if _, err := p.raw(t.ctx, method, nil); status.Code(err) != codes.Unimplemented {
			return fmt.Errorf("%s gives the status %s", method, status.Code(err))
		}
	}
	return p.answers(t.ctx)
}

func sourceOrder(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	for what, first := range map[string]*pluginv1.ReadUp{
		"a checkpoint request in place of ReadOpen": {Kind: &pluginv1.ReadUp_Checkpoint{Checkpoint: &pluginv1.CheckpointRequest{}}},
		"an acknowledgement in place of ReadOpen":   {Kind: &pluginv1.ReadUp_Acknowledge{Acknowledge: &pluginv1.Acknowledge{Sequence: 7}}},
		"a body in place of ReadOpen":               {Kind: &pluginv1.ReadUp_Body{Body: &pluginv1.RequestBody{Data: []byte("x")}}},
		"a message without a kind":                  {},
	} {
		message, err := proto.Marshal(first)
		if err != nil {
			return err
		}
		answers, err := p.raw(t.ctx, "/towpath.plugin.v1.DataSource/Read", message)
		if err == nil && !refusedInside(answers) {
			return fmt.Errorf("%s was accepted", what)
		}
		if err := p.survives(t.ctx, what, err); err != nil {
			return err
		}
	}
	if answers, err := p.raw(t.ctx, "/towpath.plugin.v1.DataSource/Read"); err == nil && !refusedInside(answers) {
		return errors.New("a call without any message was accepted")
	}
	return p.answers(t.ctx)
}

// sourceGarbage opens flows with what no host would send.
func sourceGarbage(t *trial) error {
	a, err := t.address()
	if err != nil {
		return err
	}
	p, err := t.fresh()
	if err != nil {
		return err
	}
	for what, change := range map[string]func(*pluginv1.ReadOpen){
		"no address":             func(o *pluginv1.ReadOpen) { o.Address = nil },
		"no flow":                func(o *pluginv1.ReadOpen) { o.Flow = nil },
		"a digest that is not":   func(o *pluginv1.ReadOpen) { o.Digests = []pluginv1.DigestAlgorithm{99} },
		"a selection of nothing": func(o *pluginv1.ReadOpen) { o.Select = &pluginv1.PartSelection{Name: "\x00", Offset: 1 << 63} },
		"a lane that is not there": func(o *pluginv1.ReadOpen) {
			o.Lane = &pluginv1.LaneOffer{Name: "fd9", Socket: "/nowhere", Token: []byte{1}}
		},
		"a flow called ../..": func(o *pluginv1.ReadOpen) { o.Flow.Id = "../../.." },
	} {
		r, err := t.read(p, a, change)
		if err == nil {
			for err == nil && r.bytes < 1<<20 {
				_, err = r.next()
			}
			r.cancel()
		}
		if answer := p.answers(t.ctx); answer != nil {
			return fmt.Errorf("a ReadOpen with %s: %w", what, answer)
		}
	}
	r, err := t.read(p, a, nil)
	if err != nil {
		return p.explain(err)
	}
	defer r.cancel()
	for _, up := range []*pluginv1.ReadUp{{}, {Kind: &pluginv1.ReadUp_Acknowledge{Acknowledge: &pluginv1.Acknowledge{Sequence: 1 << 60}}},
		{Kind: &pluginv1.ReadUp_Body{Body: &pluginv1.RequestBody{Last: true}}}, {Kind: &pluginv1.ReadUp_Open{Open: &pluginv1.ReadOpen{}}}} {
		if err := r.stream.Send(up); err != nil {
			break // it was refused
		}
	}
	for err == nil && r.bytes < 1<<20 {
		_, err = r.next()
	}
	return p.answers(t.ctx)
}

// sinkGarbage opens flows with what no host would send.
func sinkGarbage(t *trial) error {
	p, err := t.fresh()
	if err != nil {
		return err
	}
	for what, change := range map[string]func(*pluginv1.WriteOpen){
		"no address":           func(o *pluginv1.WriteOpen) { o.Address = nil },
		"no flow":              func(o *pluginv1.WriteOpen) { o.Flow = nil },
		"a digest that is not": func(o *pluginv1.WriteOpen) { o.Digests = []pluginv1.DigestAlgorithm{99} },
		"a flow called ../..":  func(o *pluginv1.WriteOpen) { o.Flow.Id = "../../.." },
	} {
		a, flow, err := t.to()
		if err != nil {
			return err
		}
		w, err := t.write(p, a, flow, t.contents(1), change)
		if err == nil {
			if err = w.sendAll(sendOptions{}); err == nil {
				w.awaitRefusal(what) // or an end in order: both are fine
			}
			w.close()
		}
		if answer := p.answers(t.ctx); answer != nil {
			return fmt.Errorf("a WriteOpen with %s: %w", what, answer)
		}
	}
	return p.answers(t.ctx)
}

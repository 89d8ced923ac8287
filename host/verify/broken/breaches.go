package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// breaches are the ways to break one promise.
var breaches = map[string]breach{
	"sound": {},

	"noise-before":  {start: func() { fmt.Println("Loading, please wait") }},
	"no-output":     {start: func() { os.Exit(3) }},
	"not-a-socket":  {start: func() { fmt.Println("1|1|tcp|127.0.0.1:1|grpc"); select {} }},
	"other-version": {start: func() { fmt.Println("1|99|unix|/tmp/x|grpc"); select {} }},
	"cookieless":    {cookieless: true},
	"bad-name":      {describe: func(_ *pluginv1.DescribeRequest, d *pluginv1.DescribeResponse) error { d.Name = "Bad_Name"; return nil }},
	"moody": {describe: func(_ *pluginv1.DescribeRequest, d *pluginv1.DescribeResponse) error {
		d.Documentation += strconv.FormatInt(count.Add(1), 10)
		return nil
	}},
	"no-sinks": {withoutSinks: true},
	"bad-default": {describe: func(_ *pluginv1.DescribeRequest, d *pluginv1.DescribeResponse) error {
		d.Config.Fields[1].DefaultValue = "maybe"
		return nil
	}},
	"refuses-config": {configure: func(*pluginv1.ConfigureRequest, error) error { return status.Error(codes.InvalidArgument, "no") }},
	"any-config":     {configure: func(*pluginv1.ConfigureRequest, error) error { return nil }},
	"config-crash": {configure: func(r *pluginv1.ConfigureRequest, err error) error {
		if !json.Valid(r.ConfigJson) {
			os.Exit(5)
		}
		return err
	}},
	"never-well": {health: func(h *pluginv1.HealthResponse) { h.Status = pluginv1.HealthStatus_HEALTH_STATUS_NOT_SERVING }},
	"uncounted":  {health: func(h *pluginv1.HealthResponse) { h.Flows = 0 }},

	"validates-once": {validate: func(_ *pluginv1.DataAddress, r *pluginv1.ValidateResponse, err error) (*pluginv1.ValidateResponse, error) {
		if count.Add(1) > 1 {
			return &pluginv1.ValidateResponse{Errors: []*pluginv1.FieldError{{Field: "path", Message: "again?"}}}, nil
		}
		return r, err
	}},
	"validates-nothing": {validate: func(*pluginv1.DataAddress, *pluginv1.ValidateResponse, error) (*pluginv1.ValidateResponse, error) {
		return &pluginv1.ValidateResponse{}, nil
	}},
	"hates-defaults": {validate: func(a *pluginv1.DataAddress, r *pluginv1.ValidateResponse, err error) (*pluginv1.ValidateResponse, error) {
		for _, name := range []string{"parts", "mode"} {
			if a.GetProperties()[name] != "" {
				return &pluginv1.ValidateResponse{Errors: []*pluginv1.FieldError{{Field: name, Message: "is not liked"}}}, nil
			}
		}
		return r, err
	}},
	"tells-secrets": {
		beforeRead: func(o *pluginv1.ReadOpen) error {
			fmt.Fprintln(os.Stderr, "opening with", o.GetAddress().GetProperties()["key"])
			return nil
		},
		beforeWrite: func(o *pluginv1.WriteOpen) error {
			fmt.Fprintln(os.Stderr, "opening with", o.GetAddress().GetProperties()["key"])
			return nil
		}},
	"any-type": {beforeRead: func(o *pluginv1.ReadOpen) error { o.Address.Type = "Box"; return nil },
		beforeWrite: func(o *pluginv1.WriteOpen) error { o.Address.Type = "Box"; return nil },
		validate: func(_ *pluginv1.DataAddress, r *pluginv1.ValidateResponse, err error) (*pluginv1.ValidateResponse, error) {
			if err != nil {
				err = status.Error(codes.InvalidArgument, "no")
			}
			return r, err
		}},

	"wrong-size": {frame: eachFrame(func(_ *flow, f *pluginv1.Frame) {
		if e := f.GetPartEnd(); e != nil {
			e.Size++
		}
	})},
	"wrong-total": {frame: eachFrame(func(_ *flow, f *pluginv1.Frame) {
		if e := f.GetEnd(); e != nil {
			e.Bytes++
		}
	})},
	"no-end": {frame: func(_ *flow, f *pluginv1.Frame) []*pluginv1.Frame {
		if f.GetEnd() != nil {
			return nil
		}
		return []*pluginv1.Frame{f}
	}},
	"never-the-same": {frame: eachFrame(func(_ *flow, f *pluginv1.Frame) {
		if d, ok := f.Kind.(*pluginv1.Frame_Data); ok {
			d.Data[0] = byte(count.Add(1))
		}
		if e := f.GetPartEnd(); e != nil {
			e.Digests = nil
		}
	})},
	"no-digests": {frame: eachFrame(func(_ *flow, f *pluginv1.Frame) {
		if e := f.GetPartEnd(); e != nil {
			e.Digests = nil
		}
	})},
	"wrong-digest": {frame: eachFrame(func(_ *flow, f *pluginv1.Frame) {
		for _, d := range f.GetPartEnd().GetDigests() {
			d.Value[0] ^= 1
		}
	})},
	"no-small-parts": failingAt(1),
	"no-full-frames": failingAt(1 << 20),
	"no-odd-parts":   failingAt(4097),
	"empty-frames": {frame: func(_ *flow, f *pluginv1.Frame) []*pluginv1.Frame {
		if b := f.GetPartBegin(); b != nil && b.GetSize() == 0 {
			return []*pluginv1.Frame{f, {Kind: &pluginv1.Frame_Data{}}}
		}
		return []*pluginv1.Frame{f}
	}},
	"a-thousand-at-most": {
		frame: func(s *flow, f *pluginv1.Frame) []*pluginv1.Frame {
			if f.GetPartBegin() != nil && s.parts > 1000 {
				return []*pluginv1.Frame{errorFrame(pluginv1.ErrorCode_ERROR_CODE_EXHAUSTED, "too many parts")}
			}
			return []*pluginv1.Frame{f}
		},
		toSink: func(s *flow, f *pluginv1.Frame) []*pluginv1.Frame {
			if f.GetPartBegin() != nil && s.parts > 1000 {
				return []*pluginv1.Frame{{}}
			}
			return []*pluginv1.Frame{f}
		}},
	"miscounts-records": {
		frame: eachFrame(func(_ *flow, f *pluginv1.Frame) {
			if r := f.GetRecords(); r != nil {
				r.Count++
			}
		}),
		up: eachUp(func(_ *flow, u *pluginv1.WriteUp) {
			if d := u.GetDone(); d != nil {
				d.Records++
			}
		})},
	"lists-content": {beforeRead: func(o *pluginv1.ReadOpen) error { o.List = false; return nil }},
	"selects-all":   {beforeRead: func(o *pluginv1.ReadOpen) error { o.Select = nil; return nil }},
	"selects-whole": {beforeRead: func(o *pluginv1.ReadOpen) error {
		if o.Select != nil {
			o.Select.Offset, o.Select.Length = 0, nil
		}
		return nil
	}},
	"skips-nothing": {beforeRead: func(o *pluginv1.ReadOpen) error { o.Skip = nil; return nil }},
	"begins-again":  {beforeRead: func(o *pluginv1.ReadOpen) error { o.ResumeToken = nil; return nil }},
	"no-checkpoints": {frame: func(_ *flow, f *pluginv1.Frame) []*pluginv1.Frame {
		if f.GetCheckpoint() != nil {
			return nil
		}
		return []*pluginv1.Frame{f}
	}},
	"forgets-when-killed": {
		frame: eachFrame(func(_ *flow, f *pluginv1.Frame) {
			if c := f.GetCheckpoint(); c != nil {
				c.SourceToken = remember(c.SourceToken)
			}
		}),
		beforeRead: func(o *pluginv1.ReadOpen) error { o.ResumeToken = recall(o.ResumeToken); return nil },
		up: eachUp(func(_ *flow, u *pluginv1.WriteUp) {
			if d := u.GetDurable(); d != nil {
				d.SinkToken = remember(d.SinkToken)
			}
		}),
		beforeWrite: func(o *pluginv1.WriteOpen) error { o.ResumeToken = recall(o.ResumeToken); return nil },
	},
	"any-token": {
		beforeRead: func(o *pluginv1.ReadOpen) error {
			if !bytes.Contains(o.ResumeToken, []byte("sequence")) {
				o.ResumeToken = nil
			}
			return nil
		},
		beforeWrite: func(o *pluginv1.WriteOpen) error {
			if !bytes.Contains(o.ResumeToken, []byte("totals")) {
				o.ResumeToken = nil
			}
			return nil
		}},
	"vague-errors": {
		frame: eachFrame(func(_ *flow, f *pluginv1.Frame) {
			if e := f.GetError(); e != nil {
				e.Code = pluginv1.ErrorCode_ERROR_CODE_UNSPECIFIED
			}
		}),
		up: eachUp(func(_ *flow, u *pluginv1.WriteUp) {
			if e := u.GetError(); e != nil {
				e.Code = pluginv1.ErrorCode_ERROR_CODE_UNSPECIFIED
			}
		})},
	"hoards":  {hoards: true},
	"alone":   {alone: true},
	"uncut":   {uncut: true},
	"no-open": {beforeRead: func(*pluginv1.ReadOpen) error { return nil }},
	"crashes": {
		beforeRead: func(o *pluginv1.ReadOpen) error {
			if o.GetAddress() == nil {
				panic("nil pointer dereference")
			}
			return nil
		},
		beforeWrite: func(o *pluginv1.WriteOpen) error {
			if o.GetAddress() == nil {
				panic("nil pointer dereference")
			}
			return nil
		}},
	"talks": {
		frame:  eachFrame(func(_ *flow, f *pluginv1.Frame) { fmt.Fprintln(os.Stderr, "sent", fmt.Sprintf("%T", f.Kind)) }),
		toSink: eachFrame(func(_ *flow, f *pluginv1.Frame) { fmt.Fprintln(os.Stderr, "received", fmt.Sprintf("%T", f.Kind)) })},
	"talks-on-stdout": {frame: eachFrame(func(s *flow, f *pluginv1.Frame) {
		if f.GetEnd() != nil {
			fmt.Println("sent", s.parts)
		}
	})},
	"answers-once": {answer: func(s *flow, f *pluginv1.Frame) {
		if b := f.GetPartBegin(); b != nil {
			b.Index += uint64(s.parts)
			s.parts++
		}
	}},
	"never-again": {
		up: eachUp(func(s *flow, u *pluginv1.WriteUp) {
			if u.GetDone() != nil {
				remember([]byte(s.write.Flow.Id))
			}
		}),
		beforeWrite: func(o *pluginv1.WriteOpen) error {
			memory.Lock()
			defer memory.Unlock()
			for _, id := range remembered {
				if string(id) == o.GetFlow().GetId() {
					return status.Error(codes.FailedPrecondition, "this flow is done")
				}
			}
			return nil
		}},
	"half-a-lane": {
		beforeRead: func(o *pluginv1.ReadOpen) error {
			if o.Lane != nil {
				o.Lane.Socket = "/nowhere"
			}
			return nil
		},
		frame: func(s *flow, f *pluginv1.Frame) []*pluginv1.Frame {
			if s.sent || s.read.Lane == nil {
				return []*pluginv1.Frame{f}
			}
			s.sent = true
			return []*pluginv1.Frame{{Kind: &pluginv1.Frame_Lane{Lane: &pluginv1.Lane{}}}, f}
		},
		beforeWrite: func(o *pluginv1.WriteOpen) error { o.Lane = nil; return nil }},
	"hasty": {hasty: true},
	"undrained": {drain: func(d *pluginv1.DrainResponse) { d.Flows = 0 },
		health: func(h *pluginv1.HealthResponse) { h.Status = pluginv1.HealthStatus_HEALTH_STATUS_SERVING }},

	"no-receipts": {up: func(_ *flow, u *pluginv1.WriteUp) []*pluginv1.WriteUp {
		if u.GetPartWritten() != nil {
			return nil
		}
		return []*pluginv1.WriteUp{u}
	}},
	"nothing-durable": {up: func(_ *flow, u *pluginv1.WriteUp) []*pluginv1.WriteUp {
		if u.GetDurable() != nil {
			return nil
		}
		return []*pluginv1.WriteUp{u}
	}},
	"spoils": {
		toSink: eachFrame(func(_ *flow, f *pluginv1.Frame) {
			if d, ok := f.Kind.(*pluginv1.Frame_Data); ok {
				d.Data[0] ^= 1
			}
			if e := f.GetPartEnd(); e != nil {
				e.Digests = nil
			}
		}),
		up: eachUp(func(_ *flow, u *pluginv1.WriteUp) {
			if w := u.GetPartWritten(); w != nil {
				w.Digests = nil
			}
		})},
	"trusts-digests": {toSink: eachFrame(func(_ *flow, f *pluginv1.Frame) {
		if e := f.GetPartEnd(); e != nil {
			e.Digests = nil
		}
	})},
	"trusts-sizes": {toSink: eachFrame(func(s *flow, f *pluginv1.Frame) {
		if e := f.GetPartEnd(); e != nil {
			e.Size = s.bytes
		}
	})},
	"always-done": {up: func(_ *flow, u *pluginv1.WriteUp) []*pluginv1.WriteUp {
		if u.GetError() != nil {
			return []*pluginv1.WriteUp{{Kind: &pluginv1.WriteUp_Done{Done: &pluginv1.WriteDone{}}}}
		}
		return []*pluginv1.WriteUp{u}
	}},
	"any-name": {toSink: eachFrame(func(_ *flow, f *pluginv1.Frame) {
		if b := f.GetPartBegin(); b != nil && sdk.CheckName(b.Name) != nil {
			b.Name = "cleaned"
		}
	})},
	"any-frame": {toSink: func(_ *flow, f *pluginv1.Frame) []*pluginv1.Frame {
		if d := f.GetData(); len(d) > sdk.MaxData {
			return []*pluginv1.Frame{{Kind: &pluginv1.Frame_Data{Data: d[:sdk.MaxData]}}, {Kind: &pluginv1.Frame_Data{Data: d[sdk.MaxData:]}}}
		}
		return []*pluginv1.Frame{f}
	}},
	"shows-halves": {toSink: eachFrame(func(s *flow, f *pluginv1.Frame) {
		if b := f.GetPartBegin(); b != nil {
			folder := os.Getenv("BROKEN_DIR") + "/" + s.write.Address.Properties["path"] + "/"
			os.MkdirAll(folder+b.Name[:strings.LastIndex(b.Name, "/")], 0o700)
			os.WriteFile(folder+b.Name, []byte("half"), 0o600)
		}
	})},
	"strange-deprovision": {deprovision: func() error { return status.Error(codes.NotFound, "never heard of it") }},
	"provisions-secretly": {provision: func() (*pluginv1.ProvisionResponse, error) {
		return &pluginv1.ProvisionResponse{Address: &pluginv1.DataAddress{Type: "Box"}}, nil
	}},
	"provisions-anew": {
		describe: func(_ *pluginv1.DescribeRequest, d *pluginv1.DescribeResponse) error {
			d.SinkTypes[0].Provisions = true
			return nil
		},
		provision: func() (*pluginv1.ProvisionResponse, error) {
			return &pluginv1.ProvisionResponse{Address: &pluginv1.DataAddress{Type: "Box", Endpoint: fmt.Sprint(count.Add(1))}}, nil
		}},

	"fears-the-future": {describe: func(r *pluginv1.DescribeRequest, _ *pluginv1.DescribeResponse) error {
		if len(r.ProtoReflect().GetUnknown()) > 0 {
			return status.Error(codes.InvalidArgument, "unknown field")
		}
		return nil
	}},
	"takes-anything":    {options: []grpc.ServerOption{grpc.ForceServerCodecV2(lenient{encoding.GetCodecV2("proto"), func() {}})}},
	"dies-of-garbage":   {options: []grpc.ServerOption{grpc.ForceServerCodecV2(lenient{encoding.GetCodecV2("proto"), func() { os.Exit(6) }})}},
	"takes-all-sizes":   {options: []grpc.ServerOption{grpc.MaxRecvMsgSize(64 << 20)}},
	"knows-all-methods": {options: []grpc.ServerOption{grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return nil })}},
	"deaf-to-term":      {deafToTerm: true},
	"hates-pings":       {options: []grpc.ServerOption{grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Minute})}},
	"breeds": {start: func() {
		child := exec.Command("sleep", "60")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			panic(err)
		}
	}},
	"fears-tls": {start: func() {
		if os.Getenv("PLUGIN_CLIENT_CERT") != "" {
			fmt.Fprintln(os.Stderr, "a certificate!")
			os.Exit(7)
		}
	}},
}

var count atomic.Int64

func eachFrame(change func(*flow, *pluginv1.Frame)) func(*flow, *pluginv1.Frame) []*pluginv1.Frame {
	return func(s *flow, f *pluginv1.Frame) []*pluginv1.Frame {
		change(s, f)
		return []*pluginv1.Frame{f}
	}
}

func eachUp(change func(*flow, *pluginv1.WriteUp)) func(*flow, *pluginv1.WriteUp) []*pluginv1.WriteUp {
	return func(s *flow, u *pluginv1.WriteUp) []*pluginv1.WriteUp {
		change(s, u)
		return []*pluginv1.WriteUp{u}
	}
}

func errorFrame(code pluginv1.ErrorCode, message string) *pluginv1.Frame {
	return &pluginv1.Frame{Kind: &pluginv1.Frame_Error{Error: &pluginv1.Error{Code: code, Message: message}}}
}

// failingAt fails with parts of one size.
func failingAt(size uint64) breach {
	return breach{
		frame: func(_ *flow, f *pluginv1.Frame) []*pluginv1.Frame {
			if b := f.GetPartBegin(); b != nil && b.GetSize() == size {
				return []*pluginv1.Frame{errorFrame(pluginv1.ErrorCode_ERROR_CODE_UNSPECIFIED, "an off-by-one error")}
			}
			return []*pluginv1.Frame{f}
		},
		toSink: func(_ *flow, f *pluginv1.Frame) []*pluginv1.Frame {
			if b := f.GetPartBegin(); b != nil && b.GetSize() == size {
				return []*pluginv1.Frame{{}}
			}
			return []*pluginv1.Frame{f}
		}}
}

// remembered are tokens that only this process knows.
var (
	memory     sync.Mutex
	remembered [][]byte // guarded by memory
)

func remember(token []byte) []byte {
	memory.Lock()
	defer memory.Unlock()
	remembered = append(remembered, token)
	return fmt.Appendf(nil, "memory-%d-%d", os.Getpid(), len(remembered)-1)
}

// recall returns a token of this process, and none for any other.
func recall(token []byte) []byte {
	memory.Lock()
	defer memory.Unlock()
	var pid, i int
	if n, _ := fmt.Sscanf(string(token), "memory-%d-%d", &pid, &i); n == 2 && pid == os.Getpid() {
		return remembered[i]
	}
	return nil
}

// lenient is protobuf's codec for those who do not care what comes.
type lenient struct {
	encoding.CodecV2
	shock func()
}

func (l lenient) Unmarshal(data mem.BufferSlice, v any) error {
	if l.CodecV2.Unmarshal(data, v) != nil {
		l.shock()
	}
	return nil
}

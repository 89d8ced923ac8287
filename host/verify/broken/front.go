package main

import (
	"context"
	"io"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
)

// front hands on what a host says to the plugin of the SDK, and what that says to the host.
type front struct {
	pluginv1.UnimplementedPluginServer
	breach
	plugin pluginv1.PluginClient
	source pluginv1.DataSourceClient
	sink   pluginv1.DataSinkClient
}

func (f *front) Describe(ctx context.Context, r *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	d, err := f.plugin.Describe(ctx, &pluginv1.DescribeRequest{})
	if err == nil && f.describe != nil {
		err = f.describe(r, d)
	}
	return d, err
}

func (f *front) Configure(ctx context.Context, r *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	answer, err := f.plugin.Configure(ctx, r)
	if f.configure != nil {
		err = f.configure(r, err)
	}
	if err == nil {
		answer = &pluginv1.ConfigureResponse{}
	}
	return answer, err
}

func (f *front) Health(ctx context.Context, r *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	h, err := f.plugin.Health(ctx, r)
	if err == nil && f.health != nil {
		f.health(h)
	}
	return h, err
}

func (f *front) Drain(ctx context.Context, r *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	d, err := f.plugin.Drain(ctx, r)
	if err == nil && f.drain != nil {
		f.drain(d)
	}
	return d, err
}

// sent returns the error of a send. One who does not hear that a flow is cut waits for ever.
func (f *front) sent(err error) error {
	if err != nil && f.uncut {
		select {}
	}
	return err
}

// context is that of the inner call.
func (f *front) context(outer context.Context) (context.Context, context.CancelFunc) {
	if f.uncut {
		outer = context.WithoutCancel(outer)
	}
	return context.WithCancel(outer)
}

type sourceFront struct {
	pluginv1.UnimplementedDataSourceServer
	*front
}

func (s sourceFront) Validate(ctx context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	answer, err := s.source.Validate(ctx, r)
	if s.validate != nil {
		return s.validate(r.Address, answer, err)
	}
	return answer, err
}

func (s sourceFront) Read(outer grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	if s.alone {
		one.Lock()
		defer one.Unlock()
	}
	first, err := outer.Recv()
	if err != nil && err != io.EOF {
		return err
	}
	if s.beforeRead != nil {
		if err := s.beforeRead(first.GetOpen()); err != nil || first.GetOpen() == nil {
			return err
		}
	}
	ctx, cancel := s.context(outer.Context())
	defer cancel()
	inner, err := s.source.Read(ctx)
	if err != nil {
		return err
	}
	if first == nil {
		inner.CloseSend()
	} else if err := inner.Send(first); err != nil && err != io.EOF { // the next reception says why
		return err
	}
	go func() {
		for {
			up, err := outer.Recv()
			if err == io.EOF {
				inner.CloseSend()
			}
			if err != nil || inner.Send(up) != nil {
				return
			}
		}
	}()
	return s.frames(&flow{read: first.GetOpen()}, inner, outer)
}

func (s sourceFront) frames(f *flow, inner grpc.BidiStreamingClient[pluginv1.ReadUp, pluginv1.Frame],
	outer grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	var hoard []*pluginv1.Frame
	for {
		frame, err := inner.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		f.see(frame)
		out := []*pluginv1.Frame{frame}
		if s.frame != nil {
			out = s.frame(f, frame)
		}
		if s.hoards && (len(hoard) > 0 || f.bytes > 1<<20) {
			hoard = append(hoard, out...)
			continue
		}
		for _, frame := range out {
			if err := s.sent(outer.Send(frame)); err != nil || frame.GetError() != nil {
				return err
			}
		}
	}
	for _, frame := range hoard {
		if err := outer.Send(frame); err != nil {
			return err
		}
	}
	return nil
}

func (s sourceFront) Attend(ctx context.Context, offer *pluginv1.LaneOffer) (*pluginv1.Attendance, error) {
	return s.source.Attend(ctx, offer)
}

func (s sourceFront) Answer(outer grpc.BidiStreamingServer[pluginv1.Orders, pluginv1.Answers]) error {
	inner, err := s.source.Answer(outer.Context())
	if err != nil {
		return err
	}
	go func() {
		for {
			orders, err := outer.Recv()
			if err != nil {
				inner.CloseSend()
				return
			}
			if inner.Send(orders) != nil {
				return
			}
		}
	}()
	for f := new(flow); ; {
		answers, err := inner.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for _, a := range answers.GetAnswers() {
			for _, frame := range a.Frames {
				if s.answer != nil {
					s.answer(f, frame)
				}
			}
		}
		if err := outer.Send(answers); err != nil {
			return err
		}
	}
}

type sinkFront struct {
	pluginv1.UnimplementedDataSinkServer
	*front
}

func (s sinkFront) Validate(ctx context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	answer, err := s.sink.Validate(ctx, r)
	if s.validate != nil {
		return s.validate(r.Address, answer, err)
	}
	return answer, err
}

func (s sinkFront) Provision(ctx context.Context, r *pluginv1.ProvisionRequest) (*pluginv1.ProvisionResponse, error) {
	if s.provision != nil {
		return s.provision()
	}
	return s.sink.Provision(ctx, r)
}

func (s sinkFront) Deprovision(ctx context.Context, r *pluginv1.DeprovisionRequest) (*pluginv1.DeprovisionResponse, error) {
	if s.deprovision != nil {
		return &pluginv1.DeprovisionResponse{}, s.deprovision()
	}
	return s.sink.Deprovision(ctx, r)
}

func (s sinkFront) Write(outer grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp]) error {
	first, err := outer.Recv()
	if err != nil && err != io.EOF {
		return err
	}
	if s.beforeWrite != nil {
		if err := s.beforeWrite(first.GetOpen()); err != nil {
			return err
		}
	}
	ctx, cancel := s.context(outer.Context())
	defer cancel()
	inner, err := s.sink.Write(ctx)
	if err != nil {
		return err
	}
	if first == nil {
		inner.CloseSend()
	} else if err := inner.Send(first); err != nil && err != io.EOF { // the next reception says why
		return err
	}
	f := &flow{write: first.GetOpen()}
	go s.hand(f, outer, inner)
	for {
		up, err := inner.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		out := []*pluginv1.WriteUp{up}
		if s.up != nil {
			out = s.up(f, up)
		}
		for _, up := range out {
			if err := s.sent(outer.Send(up)); err != nil {
				return err
			}
		}
	}
}

// hand hands the host's frames to the sink.
func (s sinkFront) hand(f *flow, outer grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp],
	inner grpc.BidiStreamingClient[pluginv1.Frame, pluginv1.WriteUp]) {
	for {
		frame, err := outer.Recv()
		if err == io.EOF {
			inner.CloseSend()
		}
		if err != nil {
			return
		}
		f.see(frame)
		out := []*pluginv1.Frame{frame}
		if s.toSink != nil {
			out = s.toSink(f, frame)
		}
		for _, frame := range out {
			if inner.Send(frame) != nil {
				return
			}
		}
	}
}

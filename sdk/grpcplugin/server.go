package grpcplugin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// pluginServer serves an sdk.Plugin.
type pluginServer struct {
	pluginv1.UnimplementedPluginServer
	plugin  sdk.Plugin
	sources map[string]sdk.DataSource
	sinks   map[string]sdk.DataSink
	orders  orders
	hosts   *hosts // nil if the host launched it
	waiting replies

	mu       sync.Mutex // guards what follows
	flows    int
	draining bool
	idle     chan struct{} // closed when flows reaches 0 while draining
	stop     func()        // stops the gRPC server when its calls have ended; nil until there is one
}

func newPluginServer(p sdk.Plugin) *pluginServer {
	s := &pluginServer{plugin: p, sources: map[string]sdk.DataSource{}, sinks: map[string]sdk.DataSink{}, idle: make(chan struct{})}
	for _, t := range p.Sources {
		s.sources[t.Type] = sdk.NewDataSource(t)
	}
	for _, t := range p.Sinks {
		s.sinks[t.Type] = sdk.NewDataSink(t)
	}
	return s
}

func (s *pluginServer) Describe(_ context.Context, r *pluginv1.DescribeRequest) (*pluginv1.DescribeResponse, error) {
	return descriptionToProto(s.plugin.Description()), nil
}

func (s *pluginServer) Configure(ctx context.Context, r *pluginv1.ConfigureRequest) (*pluginv1.ConfigureResponse, error) {
	apply := func(c sdk.Config) error {
		if s.plugin.Configure == nil {
			return nil
		}
		return s.plugin.Configure(ctx, c)
	}
	if s.hosts != nil {
		return &pluginv1.ConfigureResponse{}, statusOf(s.hosts.configure(ctx, r.ConfigJson, s.busy, apply))
	}
	return &pluginv1.ConfigureResponse{}, statusOf(apply(sdk.Config{JSON: r.ConfigJson, ScratchDir: r.ScratchDir}))
}

func (s *pluginServer) Health(context.Context, *pluginv1.HealthRequest) (*pluginv1.HealthResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &pluginv1.HealthResponse{Status: pluginv1.HealthStatus_HEALTH_STATUS_SERVING, Flows: uint32(s.flows)}
	if s.draining {
		h.Status = pluginv1.HealthStatus_HEALTH_STATUS_DRAINING
	}
	return h, nil
}

func (s *pluginServer) Drain(ctx context.Context, r *pluginv1.DrainRequest) (*pluginv1.DrainResponse, error) {
	if s.hosts != nil {
		return nil, statusOf(sdk.Errorf(sdk.Unsupported, "the plugin lives on its own: it is no host's to end"))
	}
	if r.Deadline != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Deadline.AsDuration())
		defer cancel()
	}
	return &pluginv1.DrainResponse{Flows: uint32(s.drain(ctx))}, nil
}

// drain refuses new flows and waits for those that run. It returns how many are left when ctx ends.
func (s *pluginServer) drain(ctx context.Context) int {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		if s.flows == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flows
}

// busy says whether a flow runs.
func (s *pluginServer) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flows > 0
}

// flush waits until gRPC has sent what ended flows have given it, as far as that can be known: a call that the host keeps open for
// other purposes holds it up for all of d.
func (s *pluginServer) flush(d time.Duration) {
	s.mu.Lock()
	stop := s.stop
	s.mu.Unlock()
	if stop == nil {
		return
	}
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(d):
	}
}

// enter counts a flow; leave has to be called when it ends.
func (s *pluginServer) enter() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, sdk.Retryf(sdk.Unavailable, "the plugin is being stopped and takes no new flow")
	}
	s.flows++
	return s.leave, nil
}

func (s *pluginServer) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows--
	if s.draining && s.flows == 0 {
		close(s.idle)
	}
}

func (s *pluginServer) source(typ string) (sdk.DataSource, error) {
	if d, ok := s.sources[typ]; ok {
		return d, nil
	}
	return nil, sdk.Errorf(sdk.Invalid, "%s does not read addresses of type %q", s.plugin.Name, typ)
}

func (s *pluginServer) sink(typ string) (sdk.DataSink, error) {
	if d, ok := s.sinks[typ]; ok {
		return d, nil
	}
	return nil, sdk.Errorf(sdk.Invalid, "%s does not write to addresses of type %q", s.plugin.Name, typ)
}

func validation(err error) (*pluginv1.ValidateResponse, error) {
	var e *sdk.Error
	if errors.As(err, &e) && e.Code == sdk.Invalid && len(e.Fields) > 0 {
		return &pluginv1.ValidateResponse{Errors: fieldsToProto(e.Fields)}, nil
	}
	return &pluginv1.ValidateResponse{}, statusOf(err)
}

type sourceServer struct {
	pluginv1.UnimplementedDataSourceServer
	*pluginServer
}

func (s sourceServer) Validate(ctx context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	source, err := s.source(r.Address.GetType())
	if err != nil {
		return nil, statusOf(err)
	}
	return validation(source.Validate(ctx, addressFromProto(r.Address)))
}

func (s sourceServer) Store(ctx context.Context, r *pluginv1.StoreRequest) (*pluginv1.StoreResponse, error) {
	source, err := s.source(r.Address.GetType())
	if err != nil {
		return nil, statusOf(err)
	}
	name, err := source.Store(ctx, addressFromProto(r.Address))
	return &pluginv1.StoreResponse{Name: text(name)}, statusOf(err)
}

// Read sends the frames of one flow. A failure is the stream's last frame.
func (s sourceServer) Read(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	err := s.read(stream)
	if err == nil || stream.Context().Err() != nil {
		return statusOf(err)
	}
	return stream.SendMsg(&message{err: sdk.AsError(err)})
}

func (s sourceServer) read(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame]) error {
	first, err := stream.Recv()
	switch {
	case err != nil:
		return err
	case first.GetOpen() == nil:
		return errNotOpened
	case first.GetOpen().GoesOn != 0:
		return s.goOn(stream, first.GetOpen())
	}
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	open := readOpenFromProto(first.GetOpen())
	var body *bodyPipe
	if first.GetOpen().GetRequest().GetHasBody() {
		body = newBodyPipe(stream.Context())
		open.Request.Body = body
	}
	source, err := s.source(open.Address.Type)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	open.Pack = newPacker
	frames, err := source.Read(ctx, open)
	if err != nil {
		return err
	}
	defer frames.Close()
	// Ends with the stream, which ends when this function has returned.
	go func() { cancel(listen(stream, frames, body)) }()
	if err := sendFrames(newFrameSender(stream, first.GetOpen().GetLane()), frames); err != nil {
		return err
	}
	if s, ok := frames.(interface{ Settled() <-chan struct{} }); ok {
		<-s.Settled() // after End the host still says what is stored
	}
	return nil
}

// listen hands on what the host says, until it says no more: then the flow is cut.
func listen(stream grpc.BidiStreamingServer[pluginv1.ReadUp, pluginv1.Frame], to interface {
	Acknowledge(sequence uint64) error
	RequestCheckpoint() error
}, body *bodyPipe) error {
	defer body.finish(sdk.ErrInterrupted)
	for {
		up, err := stream.Recv()
		if err != nil {
			return sdk.ErrInterrupted
		}
		switch k := up.Kind.(type) {
		case *pluginv1.ReadUp_Acknowledge:
			err = to.Acknowledge(k.Acknowledge.Sequence)
		case *pluginv1.ReadUp_Checkpoint:
			err = to.RequestCheckpoint()
		case *pluginv1.ReadUp_Body:
			body.put(k.Body)
		}
		if err != nil {
			return err
		}
	}
}

// newFrameSender sends on the stream, and on the lane that is offered if there is one.
func newFrameSender(stream grpc.ServerStream, offer *pluginv1.LaneOffer) *frameSender {
	out := &frameSender{stream: stream}
	if offer != nil {
		out.after = int64(offer.After)
		out.attach = func() (*laneConn, error) { return beginLane(stream, offer) }
	}
	return out
}

func sendFrames(out *frameSender, frames sdk.ReadStream) error {
	for {
		f, err := frames.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		_, last := f.(*sdk.End)
		if err := out.send(f); err == io.EOF {
			return sdk.ErrInterrupted // the host has closed the lane
		} else if err != nil || last {
			return err // a host that hangs up now has everything
		}
	}
}

// beginLane takes up the lane that the host offers, or returns nil: gRPC will do. The lane closes with the call, when everything was said.
func beginLane(stream grpc.ServerStream, offer *pluginv1.LaneOffer) (*laneConn, error) {
	lane, err := dialLane(stream.Context(), offer)
	if err != nil {
		slog.Debug("a flow goes without a lane", "err", err)
		return nil, nil
	}
	if err := stream.SendMsg(&message{lane: true}); err != nil {
		lane.Close()
		return nil, err
	}
	return lane, nil
}

type sinkServer struct {
	pluginv1.UnimplementedDataSinkServer
	*pluginServer
}

func (s sinkServer) Validate(ctx context.Context, r *pluginv1.ValidateRequest) (*pluginv1.ValidateResponse, error) {
	sink, err := s.sink(r.Address.GetType())
	if err != nil {
		return nil, statusOf(err)
	}
	return validation(sink.Validate(ctx, addressFromProto(r.Address)))
}

func (s sinkServer) Store(ctx context.Context, r *pluginv1.StoreRequest) (*pluginv1.StoreResponse, error) {
	sink, err := s.sink(r.Address.GetType())
	if err != nil {
		return nil, statusOf(err)
	}
	name, err := sink.Store(ctx, addressFromProto(r.Address))
	return &pluginv1.StoreResponse{Name: text(name)}, statusOf(err)
}

func (s sinkServer) Provision(ctx context.Context, r *pluginv1.ProvisionRequest) (*pluginv1.ProvisionResponse, error) {
	sink, err := s.sink(r.Address.GetType())
	if err != nil {
		return nil, statusOf(err)
	}
	a, err := sink.Provision(ctx, flowFromProto(r.Flow), addressFromProto(r.Address))
	return &pluginv1.ProvisionResponse{Address: addressToProto(a)}, statusOf(err)
}

func (s sinkServer) Deprovision(ctx context.Context, r *pluginv1.DeprovisionRequest) (*pluginv1.DeprovisionResponse, error) {
	sink, err := s.sink(r.Address.GetType())
	if err != nil {
		return nil, statusOf(err)
	}
	err = sink.Deprovision(ctx, flowFromProto(r.Flow), addressFromProto(r.Address))
	return &pluginv1.DeprovisionResponse{}, statusOf(err)
}

// Write takes the frames of one flow. A failure is the last thing it says.
func (s sinkServer) Write(stream grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp]) error {
	err := s.write(stream)
	if err == nil || stream.Context().Err() != nil {
		return statusOf(err)
	}
	return stream.Send(&pluginv1.WriteUp{Kind: &pluginv1.WriteUp_Error{Error: errorToProto(sdk.AsError(err))}})
}

func (s sinkServer) write(stream grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp]) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	var first message
	if err := stream.RecvMsg(&first); err != nil {
		return err
	}
	if first.open == nil {
		sdk.Release(first.frame)
		return errNotOpened
	}
	sink, err := s.sink(first.open.Address.GetType())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	frames, err := sink.Write(ctx, writeOpenFromProto(first.open))
	if err != nil {
		return err
	}
	defer frames.Close()
	// Ends with the stream, which ends when this function has returned. So does the lane.
	go func() {
		if err := receiveFrames(stream, first.open.GetLane(), frames, func() { cancel(sdk.ErrInterrupted) }); err != nil {
			cancel(err)
		}
	}()
	return sendUps(stream, frames)
}

// receiveFrames hands the host's frames to the sink. It returns nil when the sink has stopped taking them. cut is called as soon as the
// host has closed the lane: a sink that takes nothing would not see that.
func receiveFrames(stream grpc.ServerStream, offer *pluginv1.LaneOffer, frames sdk.WriteStream, cut func()) error {
	in := frameReceiver{stream: stream, attach: func() (*laneConn, error) {
		lane, err := dialLane(stream.Context(), offer)
		if err == nil {
			// Ends with the lane, which ends with the stream.
			go func() { lane.awaitHangUp(); cut() }()
		}
		return lane, err
	}}
	for {
		m, err := in.next()
		if e := (*sdk.Error)(nil); errors.As(err, &e) {
			return err
		}
		if err != nil {
			if err != io.EOF && stream.Context().Err() == nil {
				slog.Warn("receiving a frame failed", "err", err)
			}
			return sdk.ErrInterrupted
		}
		if m.frame == nil {
			return sdk.Errorf(sdk.Internal, "a frame came that a host does not send")
		}
		_, last := m.frame.(*sdk.End)
		if err := frames.Send(m.frame); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if last {
			return awaitClose(stream)
		}
	}
}

// awaitClose waits behind the last frame: a host that goes away before it has the receipt cuts the flow.
func awaitClose(stream grpc.ServerStream) error {
	var m message
	err := stream.RecvMsg(&m)
	sdk.Release(m.frame)
	if err == nil {
		return sdk.Errorf(sdk.Internal, "a frame came behind the end")
	}
	return sdk.ErrInterrupted
}

func sendUps(stream grpc.BidiStreamingServer[pluginv1.Frame, pluginv1.WriteUp], frames sdk.WriteStream) error {
	for {
		up, err := frames.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(upToProto(up)); err != nil {
			return err
		}
	}
}

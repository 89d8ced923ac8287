package grpcplugin

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Client is a plugin as its host sees it. All methods may be called concurrently. Calls end with their context or with the process,
// whichever is first; their errors are *sdk.Error or the cause of the context. Digests that the plugin does not compute the Client
// computes, of what passes through it.
type Client struct {
	plugin pluginv1.PluginClient
	source pluginv1.DataSourceClient
	sink   pluginv1.DataSinkClient

	speaksLane atomic.Bool                     // the plugin has said so
	digests    atomic.Pointer[[]sdk.Algorithm] // those that the plugin has said it computes; nil: it has said nothing yet
	lanes      atomic.Pointer[lanes]           // nil: none are offered

	answersOnLane atomic.Bool           // the plugin has said that it attends to lanes
	talks         atomic.Pointer[talks] // nil: each read is a call of its own
	goOn          goOn
}

// NewClient returns a Client on a connection made with DialOptions. The connection stays the caller's.
func NewClient(conn grpc.ClientConnInterface) *Client {
	c := &Client{
		plugin: pluginv1.NewPluginClient(conn),
		source: pluginv1.NewDataSourceClient(conn),
		sink:   pluginv1.NewDataSinkClient(conn),
	}
	c.goOn = sourceClient{c, c.source}.goOn
	return c
}

// Describe asks the plugin what it is.
func (c *Client) Describe(ctx context.Context, hostVersion string) (sdk.Description, error) {
	d, err := c.plugin.Describe(ctx, &pluginv1.DescribeRequest{HostVersion: hostVersion})
	if err != nil {
		return sdk.Description{}, fromStatus(ctx, err)
	}
	c.speaksLane.Store(slices.Contains(d.GetCapabilities().GetLanes(), LaneName))
	c.answersOnLane.Store(slices.Contains(d.GetCapabilities().GetLanes(), AnswersLaneName))
	if d.GetCapabilities().GetAnswers() {
		c.talks.CompareAndSwap(nil, newTalks(c.converse))
	}
	described := descriptionFromProto(d)
	c.computes(described.Digests)
	return described, nil
}

// SpeaksLane says whether the plugin has said in Describe that it speaks a lane besides gRPC.
func (c *Client) SpeaksLane() bool { return c.speaksLane.Load() }

// Configure hands over the operator's configuration, once, before any flow.
func (c *Client) Configure(ctx context.Context, config sdk.Config) error {
	_, err := c.plugin.Configure(ctx, &pluginv1.ConfigureRequest{ConfigJson: config.JSON, ScratchDir: config.ScratchDir})
	return fromStatus(ctx, err)
}

// Health is a plugin's account of its own state.
type Health struct {
	Serving  bool
	Draining bool
	Message  string // why it does not serve
	Flows    int
}

// Health asks the plugin how it is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	h, err := c.plugin.Health(ctx, &pluginv1.HealthRequest{})
	if err != nil {
		return Health{}, fromStatus(ctx, err)
	}
	return Health{
		Serving:  h.Status == pluginv1.HealthStatus_HEALTH_STATUS_SERVING || h.Status == pluginv1.HealthStatus_HEALTH_STATUS_UNSPECIFIED,
		Draining: h.Status == pluginv1.HealthStatus_HEALTH_STATUS_DRAINING,
		Message:  h.Message,
		Flows:    int(h.Flows),
	}, nil
}

// Drain asks the plugin to take no new flow and to bring those that run to an end or a checkpoint. It returns how many are left.
func (c *Client) Drain(ctx context.Context, deadline time.Duration) (flows int, err error) {
	d, err := c.plugin.Drain(ctx, &pluginv1.DrainRequest{Deadline: durationpb.New(deadline)})
	return int(d.GetFlows()), fromStatus(ctx, err)
}

// attend has the plugin connect a lane for answers.
func (c *Client) attend(ctx context.Context) (connection, error) {
	offer := c.offer()
	if offer == nil {
		return nil, errors.New("there are no lanes")
	}
	ctx, cancel := context.WithTimeout(ctx, laneWait)
	defer cancel()
	p := offer.proto()
	p.Name = AnswersLaneName
	_, err := c.source.Attend(ctx, p)
	if err == nil {
		var lane *laneConn
		if lane, err = offer.await(ctx); err == nil {
			return &laneConnection{lane, elementReader{from: lane}}, nil
		}
	}
	offer.close()
	return nil, err
}

// converse calls Answer.
func (c *Client) converse(context.Context) (connection, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := c.source.Answer(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &streamConnection{stream: stream, cancel: cancel}, nil
}

// Source returns the plugin's source. Which type is read is said by the addresses it is given.
func (c *Client) Source(typ string) sdk.DataSource { return sourceClient{c, c.source} }

// Sink returns the plugin's sink. Which type is written to is said by the addresses it is given.
func (c *Client) Sink(typ string) sdk.DataSink { return sinkClient{c, c.sink} }

type sourceClient struct {
	plugin *Client
	client pluginv1.DataSourceClient
}

func (s sourceClient) Validate(ctx context.Context, a sdk.DataAddress) error {
	r, err := s.client.Validate(ctx, &pluginv1.ValidateRequest{Address: addressToProto(a)})
	if err != nil {
		return fromStatus(ctx, err)
	}
	return sdk.InvalidFields(fieldsFromProto(r.Errors))
}

func (s sourceClient) Store(ctx context.Context, a sdk.DataAddress) (string, error) {
	r, err := s.client.Store(ctx, &pluginv1.StoreRequest{Address: addressToProto(a)})
	return storeFromProto(ctx, r, err)
}

func (s sourceClient) Read(ctx context.Context, open sdk.ReadOpen) (sdk.ReadStream, error) {
	former, token, err := openTally(open.ResumeToken)
	if err != nil {
		return nil, err
	}
	open.ResumeToken = token
	var ours []sdk.Algorithm
	if open.Digests, ours = s.plugin.share(open.Digests); open.List {
		ours = nil
	}
	if p := s.plugin.talks.Load(); p != nil && open.Once && open.Request == nil && !open.Unread && len(ours) == 0 {
		if t := p.get(ctx); t != nil {
			if a, ok := t.ask(ctx, &open, s.plugin.goOn); ok {
				return a, nil
			}
		}
	}
	return s.read(ctx, reading{open: open, former: former, ours: ours})
}

// reading is a read with the digests that this host computes of it.
type reading struct {
	open   sdk.ReadOpen
	former *tallied
	ours   []sdk.Algorithm
}

// read makes a call of its own.
func (s sourceClient) read(ctx context.Context, asked reading) (sdk.ReadStream, error) {
	// What this host computes digests of, it has to read.
	return s.call(ctx, asked.open.Unread && len(asked.ours) == 0, func(r *readClient) error {
		r.tally = newTally(asked.ours, asked.former)
		return r.open(asked.open)
	})
}

// goOn takes up a read that the plugin has begun.
func (s sourceClient) goOn(ctx context.Context, number uint64) (sdk.ReadStream, error) {
	return s.call(ctx, false, func(r *readClient) error { return r.begin(&pluginv1.ReadOpen{GoesOn: number}) })
}

// call makes a call of Read, which begin begins.
func (s sourceClient) call(ctx context.Context, unread bool, begin func(*readClient) error) (sdk.ReadStream, error) {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := s.client.Read(streamCtx)
	if err != nil {
		cancel()
		return nil, fromStatus(ctx, err)
	}
	r := newReadClient(ctx, stream, cancel, s.plugin.offer(), unread)
	if err := begin(r); err != nil {
		cancel()
		r.offer.close()
		return nil, fromStatus(ctx, err)
	}
	r.stop = context.AfterFunc(ctx, r.hangUp)
	return r, nil
}

type sinkClient struct {
	plugin *Client
	client pluginv1.DataSinkClient
}

func (s sinkClient) Validate(ctx context.Context, a sdk.DataAddress) error {
	r, err := s.client.Validate(ctx, &pluginv1.ValidateRequest{Address: addressToProto(a)})
	if err != nil {
		return fromStatus(ctx, err)
	}
	return sdk.InvalidFields(fieldsFromProto(r.Errors))
}

func (s sinkClient) Store(ctx context.Context, a sdk.DataAddress) (string, error) {
	r, err := s.client.Store(ctx, &pluginv1.StoreRequest{Address: addressToProto(a)})
	return storeFromProto(ctx, r, err)
}

// maxStore bounds the name of a store, in bytes.
const maxStore = 256

func storeFromProto(ctx context.Context, r *pluginv1.StoreResponse, err error) (string, error) {
	if err != nil {
		return "", fromStatus(ctx, err)
	}
	if len(r.Name) > maxStore {
		return "", sdk.Errorf(sdk.Internal, "the name of a store has %d bytes, more than %d", len(r.Name), maxStore)
	}
	return r.Name, nil
}

func (s sinkClient) Provision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) (sdk.DataAddress, error) {
	r, err := s.client.Provision(ctx, &pluginv1.ProvisionRequest{Flow: flowToProto(flow), Address: addressToProto(a)})
	if err != nil {
		return sdk.DataAddress{}, fromStatus(ctx, err)
	}
	return addressFromProto(r.Address), nil
}

func (s sinkClient) Deprovision(ctx context.Context, flow sdk.FlowContext, a sdk.DataAddress) error {
	_, err := s.client.Deprovision(ctx, &pluginv1.DeprovisionRequest{Flow: flowToProto(flow), Address: addressToProto(a)})
	return fromStatus(ctx, err)
}

func (s sinkClient) Write(ctx context.Context, open sdk.WriteOpen) (sdk.WriteStream, error) {
	former, token, err := openTally(open.ResumeToken)
	if err != nil {
		return nil, err
	}
	open.ResumeToken = token
	var ours []sdk.Algorithm
	open.Digests, ours = s.plugin.share(open.Digests)
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := s.client.Write(streamCtx)
	if err != nil {
		cancel()
		return nil, fromStatus(ctx, err)
	}
	var offer *laneOffer
	if len(ours) == 0 { // what this host computes digests of passes through its memory
		offer = s.plugin.offer()
	}
	w := newWriteClient(ctx, stream, cancel, offer)
	w.tally = newTally(ours, former)
	first := writeOpenToProto(open)
	first.Lane = w.offer.proto()
	// With io.EOF the stream has ended already; Recv says why.
	if err := stream.SendMsg(&message{open: first}); err != nil && err != io.EOF {
		cancel()
		w.offer.close()
		return nil, fromStatus(ctx, err)
	}
	w.stop = context.AfterFunc(ctx, w.hangUp)
	return w, nil
}

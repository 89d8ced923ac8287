package publicapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// ReaderOptions are what a Reader needs. All but Digests, Meter, Logger and Replaced are required.
type ReaderOptions struct {
	// Visit enters a flow whose data its counterparty serves, as flow.Operations has it.
	Visit func(ctx context.Context, key flow.Key) (*flow.Joined, error)
	// Record stores the parts that were read whole, as flow.Service has it.
	Record func(ctx context.Context, key flow.Key, parts ...flow.Part) error
	// Source finds what reads the data addresses of a type.
	Source  func(typ string) (sdk.DataSource, error)
	Digests []sdk.Algorithm
	Meter   func(f *flow.Flow) Meter // as in Options
	Logger  *slog.Logger             // nil: nothing is logged
	// Replaced is as in Options.
	Replaced func(err error) bool
}

// Reader lets applications beside the host read what a counterparty serves, through the plugin that reads it and with the flow's own
// token. It answers as a Handler does: parts, ranges, lists, and connections that are cut where the data is not whole.
type Reader struct {
	handler *Handler
	visit   func(ctx context.Context, key flow.Key) (*flow.Joined, error)
}

// NewReader returns a Reader, or says which option is wrong.
func NewReader(o ReaderOptions) (*Reader, error) {
	if o.Visit == nil || o.Record == nil || o.Source == nil {
		return nil, errors.New("a Reader needs Visit, Record and Source")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(nil) // those that are published count counterparties
	if err != nil {
		return nil, err
	}
	return &Reader{visit: o.Visit, handler: &Handler{algorithms: algorithms(o.Digests), metrics: m, Options: Options{
		Flows: recorder{record: o.Record}, Source: o.Source, Meter: o.Meter, Logger: o.Logger, Replaced: o.Replaced, Limits: Limits{IdleTimeout: time.Minute}}}}, nil
}

// localElement is the last element of the paths at which a Reader's data is: the list of a flow's parts refers to them relative to it.
const localElement = "data"

// Data answers GET and HEAD with the data of a flow, or with the part of that name if part is not "". Whoever calls it has made sure
// that the request may have that, and serves it at paths that end in "data" and "data/parts/{name}".
func (rd *Reader) Data(key flow.Key, part string) http.Handler {
	to := route{operation: pullFlow, key: key, local: true}
	if part != "" {
		to.operation, to.name = pullPart, part
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rd.handler.answer(w, r, to, rd.serve) })
}

func (rd *Reader) serve(x *exchange) error {
	if !slices.Contains(methods[x.route.operation], x.r.Method) {
		return wrongMethod.because("%s is not for this path", x.r.Method).with("Allow", "GET, HEAD")
	}
	joined, err := rd.visit(x.r.Context(), x.route.key)
	if err != nil {
		return err
	}
	s := rd.handler.newStay(x, joined)
	defer s.leave()
	err = rd.handler.pull(x, s)
	s.leave()
	return s.explain(err)
}

// recorder is what a Reader needs of a flow.Service: it joins no flow, and takes nothing in.
type recorder struct {
	flow.Service
	record func(ctx context.Context, key flow.Key, parts ...flow.Part) error
}

// Record is called for every part that was read whole.
func (r recorder) Record(ctx context.Context, key flow.Key, parts ...flow.Part) error {
	return r.record(ctx, key, parts...)
}

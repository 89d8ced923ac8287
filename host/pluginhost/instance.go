package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin"

	"github.com/towpath-dataplane/towpath/host/confine"
	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// instance is a launched plugin: a process and the connection to it. Whoever launched it ends it with stop or end.
type instance struct {
	program
	process     *process
	link        *link // the connection to a dialled plugin, see dial; otherwise nil
	rpc         client
	description sdk.Description
	flows       streams
	visits      visits
	ready       time.Time   // when it became ready
	crashed     func()      // notes once that it has ended by itself; nil if nobody is to know
	frozen      atomic.Bool // it is killed because it did not answer
	culprit     tenant      // who crashed it for the last time; this and verdict are valid when crashed has returned
	verdict     error       // what it is told, nil if there is none
	stopLanes   func()      // nil if there are none
	policy      confine.Policy
	confined    *confine.Process // nil if it is not
	trial       *trial           // nil if the build has nothing to prove
	leaving     <-chan struct{}  // closed when flows are to leave for another build; nil: never

	client  *plugin.Client // nil if it is dialled
	folder  string
	scratch string
	out     *output
	hs      *handshake

	mu   sync.Mutex
	conn io.Closer // the connection, also if go-plugin lost it; nil if there is none
}

// client is what the host calls on a plugin.
type client interface {
	Describe(ctx context.Context, hostVersion string) (sdk.Description, error)
	Configure(ctx context.Context, c sdk.Config) error
	Health(ctx context.Context) (grpcplugin.Health, error)
	Drain(ctx context.Context, deadline time.Duration) (flows int, err error)
	SpeaksLane() bool
	OfferLanes(socket string, o grpcplugin.LaneOptions) (stop func(), err error)
	Source(typ string) sdk.DataSource
	Sink(typ string) sdk.DataSink
}

var _ client = (*grpcplugin.Client)(nil)

// exitGrace is how long after a broken connection the end of the process is waited for: it explains the break.
const exitGrace = 2 * drainGrace

// configure hands over the operator's configuration. The error is an *Error; the instance is ended then.
func (in *instance) configure(ctx context.Context, config []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, in.settings.StartTimeout, errSlow)
	defer cancel()
	err := in.rpc.Configure(ctx, sdk.Config{JSON: config, ScratchDir: in.scratch})
	if err == nil {
		return nil
	}
	if sdk.AsError(err).Code == sdk.Invalid {
		err = finally(err)
	}
	return in.fail(ctx, "configure", err)
}

// fail ends the instance and says why, with what its process said last. If ctx is about to end, or the process by itself, that is the
// better reason, and is waited for.
func (in *instance) fail(ctx context.Context, doing string, err error) *Error {
	// A dialled plugin can be another one tomorrow.
	final := errors.As(err, new(finalError)) && !in.dialled()
	if !final && in.process != nil && !in.dialled() {
		in.process.wait(ctx, exitGrace)
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errSlow):
		err = fmt.Errorf("%w of %s", errSlow, in.settings.StartTimeout)
	case cause != nil:
		err = cause
	}
	if left := in.end("it could not be started"); left != nil {
		err = errors.Join(err, left)
	}
	e := &Error{Plugin: in.Name, Doing: doing, Err: err, Final: final}
	if exit, ok := in.exited(); ok && !in.dialled() {
		e.Exit = &exit
	}
	return e
}

// ended is that the process has ended, as an error.
func (in *instance) ended() error {
	if !in.dialled() {
		return errEnded
	}
	if exit, ok := in.exited(); ok {
		return errors.New(exit.String())
	}
	return errLost
}

// lost is what callers get for a call that ended because the process did.
func (in *instance) lost() *sdk.Error {
	if in.dialled() {
		return sdk.Retryf(sdk.Unavailable, "plugin %s: %s", in.Name, in.process.exit)
	}
	return sdk.Retryf(sdk.Unavailable, "plugin %s ended: %s", in.Name, in.process.exit)
}

// exited returns how the process ended, if it has.
func (in *instance) exited() (Exit, bool) {
	if in.process == nil || !in.process.hasEnded() {
		return Exit{}, false
	}
	return in.process.exit, true
}

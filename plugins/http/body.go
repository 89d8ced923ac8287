package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// body is the body of an answer. It fails, rather than ends, when the answer was cut or when no byte came for too long. Only the
// time inside Read counts: a reader that is slow itself has all the time it wants.
type body struct {
	inner io.ReadCloser
	flow  context.Context // of the caller
	end   context.CancelFunc
	what  string
	idle  time.Duration
	timer *time.Timer
	idled atomic.Bool // no byte came for too long
	n     int64
}

func newBody(flow context.Context, inner io.ReadCloser, what string, idle time.Duration, end context.CancelFunc) *body {
	b := &body{inner: inner, flow: flow, end: end, what: what, idle: idle}
	b.timer = time.AfterFunc(idle, func() {
		b.idled.Store(true)
		end()
	})
	b.timer.Stop()
	return b
}

func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.idle)
	n, err := b.inner.Read(p)
	b.timer.Stop()
	b.n += int64(n)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, b.broken(err)
}

func (b *body) broken(err error) error {
	if b.idled.Load() && b.flow.Err() == nil {
		return sdk.Retryf(sdk.Unavailable, "%s: no byte came for %s after %d bytes", b.what, b.idle, b.n)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return sdk.Retryf(sdk.Unavailable, "%s: the answer was cut after %d bytes: %w", b.what, b.n, err)
	}
	return failure(b.flow, fmt.Sprintf("%s: after %d bytes", b.what, b.n), err)
}

// Close gives the connection back if the body was read whole, and closes it otherwise.
func (b *body) Close() error {
	b.timer.Stop()
	err := b.inner.Close()
	b.end()
	return err
}

// isFramed reports whether the end of an answer can be told from a cut.
func isFramed(resp *http.Response) bool {
	return resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0
}

// checkedBody compares what was read with the digests that belong to the answer itself (those of the whole are the SDK's to check),
// before it says that the end is reached.
type checkedBody struct {
	io.ReadCloser
	want    sdk.Digests
	trailer http.Header // filled at the end
	whole   bool        // the answer has the whole content
	digest  *sdk.Digester
}

// newCheckedBody returns the body itself if there is nothing to compare.
func newCheckedBody(resp *http.Response) io.ReadCloser {
	want, err := httpfield.Digests(resp.Header, httpfield.ContentDigest)
	_, content := resp.Trailer[httpfield.ContentDigest]
	_, repr := resp.Trailer[httpfield.ReprDigest]
	if (err != nil || len(want) == 0) && !content && !repr {
		return resp.Body
	}
	return &checkedBody{resp.Body, want, resp.Trailer, isWhole(resp.StatusCode), sdk.NewDigester(sdk.Algorithms()...)}
}

func (c *checkedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.digest.Write(p[:n])
	if err == io.EOF {
		if wrong := c.check(); wrong != nil {
			return n, sdk.Retryf(sdk.Corrupt, "is not what its origin says: %w", wrong)
		}
	}
	return n, err
}

func (c *checkedBody) check() error {
	all := []sdk.Digests{c.want}
	fields := []string{httpfield.ContentDigest}
	if c.whole {
		fields = append(fields, httpfield.ReprDigest)
	}
	for _, field := range fields {
		if d, err := httpfield.Digests(c.trailer, field); err == nil {
			all = append(all, d)
		}
	}
	sum := c.digest.Sum()
	for _, want := range all {
		if err := sum.Compare(want); err != nil {
			return err
		}
	}
	return nil
}

// decodeDigests reads digests in hexadecimal and leaves out algorithms that are not known.
func decodeDigests(announced map[sdk.Algorithm]string) (sdk.Digests, error) {
	known := sdk.NewDigester(sdk.Algorithms()...).Sum()
	out := sdk.Digests{}
	for a, text := range announced {
		value, err := hex.DecodeString(text)
		switch {
		case known[a] == nil:
		case err != nil || len(value) != len(known[a]):
			return nil, fmt.Errorf("%q is not a %s", text, a)
		default:
			out[a] = value
		}
	}
	return out, nil
}

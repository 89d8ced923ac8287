package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Pings of a host's connection: a little closer together than those of a host, and as many as no server that counts them lets pass.
const (
	pingInterval = 5500 * time.Millisecond
	pings        = 5
)

// processKeepalive waits for what pinger, which works beside the other checks, has found.
func processKeepalive(t *trial) error {
	if t.pinger == nil {
		return skipf("the plugin could not be launched")
	}
	select {
	case err := <-t.pinger:
		t.pinger <- err
		return err
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// startPinger launches a process for pings, which take their time, and sends the result to pinger.
func (s *suite) startPinger(ctx context.Context) {
	method := "/towpath.plugin.v1.DataSink/Write"
	if len(s.description.GetSourceTypes()) > 0 {
		method = "/towpath.plugin.v1.DataSource/Read"
	}
	p, err := s.start(ctx)
	if err != nil {
		return // other checks say why
	}
	s.pinger = make(chan error, 1)
	ctx, s.stopPinger = context.WithCancel(ctx)
	s.pinging.Go(func() {
		defer p.end()
		s.pinger <- p.ping(ctx, method)
	})
}

// ping opens a call on a connection of its own, and pings as a host does while a call is open.
func (p *process) ping(ctx context.Context, method string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", p.line.address)
	if err != nil {
		return fmt.Errorf("connect a second time: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	framer := http2.NewFramer(conn, conn)
	if err := openCall(conn, framer, method); err != nil {
		return fmt.Errorf("open a call: %w", err)
	}
	for i := 0; ; i++ {
		framer.WritePing(false, [8]byte{byte(i)}) // if it fails, what was read says why
		if err := awaitPong(conn, framer); err != nil {
			return fmt.Errorf("ping %d, at intervals of %s: %w", i+1, pingInterval, err)
		}
		if i+1 == pings {
			return nil
		}
		select {
		case <-time.After(pingInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// openCall opens a call that no message follows.
func openCall(conn net.Conn, framer *http2.Framer, method string) error {
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	return errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}))
}

// awaitPong reads until a ping is answered.
func awaitPong(conn net.Conn, framer *http2.Framer) error {
	conn.SetReadDeadline(time.Now().Add(hearTime))
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return fmt.Errorf("no answer: %w", err)
		}
		switch f := f.(type) {
		case *http2.PingFrame:
			if f.IsAck() {
				return nil
			}
			err = framer.WritePing(true, f.Data) // gRPC pings to learn how fast the connection is
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("it ends the connection: %s %q", f.ErrCode, f.DebugData())
		case *http2.RSTStreamFrame:
			return fmt.Errorf("it ends a call that has not begun: %s", f.ErrCode)
		}
		if err != nil {
			return err
		}
	}
}

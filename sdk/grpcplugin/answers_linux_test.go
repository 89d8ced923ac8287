package grpcplugin

import (
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// A talk that has ended while nobody used it costs the next read nothing.
func TestTalkThatEndsWhileIdle(t *testing.T) {
	memory := &sdktest.Memory{}
	memory.Put("a", []byte("abc"))
	for name, end := range map[string]func(c *laneConn){
		"by the host's side": func(c *laneConn) { c.Close() },
		"by the plugin": func(c *laneConn) {
			c.Write([]byte("no order has this form"))
			if h, err := c.peek(); err != io.EOF && err != syscall.ECONNRESET {
				t.Errorf("the plugin said %x, %v", h, err)
			}
		},
	} {
		c := laneClient(t, memory.Plugin())
		for i := range 4 {
			lines, err := everything(t, c.Source(sdktest.MemoryType), sdk.ReadOpen{Address: memory.Address(""), Once: true})
			if err != nil || len(lines) != 4 {
				t.Errorf("%s: %q, %v", name, lines, err)
			}
			p := c.talks.Load()
			if i%2 == 0 {
				p.mu.Lock()
				end(p.idle[0].talk.(*laneTalk).conn)
				p.mu.Unlock()
			}
		}
	}
}

// Reads that end and that are cut give their descriptors back when the lanes are closed.
func TestTalksLeaveNoDescriptors(t *testing.T) {
	memory := &sdktest.Memory{}
	memory.Put("large", sdktest.Pattern(1, 4<<20))
	before := descriptors(t)
	t.Run("talks", func(t *testing.T) {
		c := laneClient(t, memory.Plugin())
		var streams []sdk.ReadStream
		for range 2 * idleTalks {
			stream, err := c.Source(sdktest.MemoryType).Read(t.Context(), sdk.ReadOpen{Address: memory.Address(""), Once: true})
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, stream)
		}
		for i, s := range streams {
			for i%2 == 0 {
				f, err := s.Recv()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				sdk.Release(f)
			}
			s.Close()
		}
		if idle, open := c.countTalks(); idle != idleTalks || open != idleTalks {
			t.Errorf("%d talks, of which %d wait", open, idle)
		}
	})
	until(t, "the descriptors are back", func() bool { return descriptors(t) <= before })
}

// What a plugin sends on a lane for answers fails the read, not the host.
func TestRudeAnswers(t *testing.T) {
	frame := func(m message) []byte {
		b, err := appendMessage(nil, frameItem, frameToProto(&m))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	begin := frame(message{frame: &sdk.PartBegin{PartInfo: sdk.PartInfo{Name: "a", Size: 3}}})
	for name, tc := range map[string]struct {
		sends []byte
		want  string
	}{
		"nothing":                {nil, "ended an answer before it was whole"},
		"half a header":          {[]byte{frameItem, 0}, "ended an answer before it was whole"},
		"half a frame":           {begin[:len(begin)-1], "ended an answer before it was whole"},
		"no end":                 {begin, "ended an answer before it was whole"},
		"half of the data":       {append(begin[:len(begin):len(begin)], dataItem, 0, 0, 0, 0, 1, 0, 0, 'a'), "ended an answer before it was whole"},
		"only the rest of one":   {[]byte{dataItem, 0, 0, 0, 0, 0, 0, 1, 'a'}, "the rest of an answer"},
		"more behind the end":    {append(frame(message{frame: &sdk.End{}}), begin...), "EOF"},
		"an order":               {[]byte{orderItem, 0, 0, 0, 0, 0, 0, 0}, "on a lane for answers"},
		"an item of no kind":     {[]byte{9, 0, 0, 0, 0, 0, 0, 1, 0}, "on a lane for answers"},
		"too much data":          {[]byte{dataItem, 0, 0, 0, 0, 16, 0, 1}, "on the lane"},
		"an endless frame":       {[]byte{frameItem, 0, 0, 0, 0xff, 0, 0, 0}, "on a lane for answers"},
		"a frame of no kind":     {[]byte{frameItem, 0, 0, 0, 0, 0, 0, 0}, "a kind that this side knows"},
		"a frame that is no one": {[]byte{frameItem, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xff}, "a frame on a lane for answers"},
		"the frame of a lane":    {frame(message{lane: true}), "does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			before := sdk.OutstandingBuffers()
			fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			host, plugin := end(t, fds[0]), end(t, fds[1])
			lane, err := newLaneConn(host, 0)
			if err != nil {
				t.Fatal(err)
			}
			plugin.Write(tc.sends)
			plugin.CloseWrite()
			talk := newLaneTalk(lane)
			p := newTalks(nil)
			p.open[talk] = struct{}{}
			a := &answer{ctx: t.Context(), talks: p, talk: talk, begun: true, stop: func() bool { return true }}
			for err == nil {
				var f sdk.Frame
				if f, err = a.Recv(); err == nil {
					sdk.Release(f)
				}
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			plugin.Close()
			a.Close()
			if len(p.idle) != 0 || len(p.open) != 0 {
				t.Error("the talk is used again")
			}
			if n := sdk.OutstandingBuffers(); n != before {
				t.Errorf("%d buffers are left", n-before)
			}
		})
	}
}

func end(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

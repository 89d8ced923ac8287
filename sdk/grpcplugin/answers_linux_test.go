package grpcplugin

import (
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// A talk that has ended is followed by another one, and reads meanwhile have calls of their own.
func TestTalkThatEnds(t *testing.T) {
	memory := &sdktest.Memory{}
	memory.Put("a", []byte("abc"))
	for name, end := range map[string]func(c *laneConn){
		"by the host's side": func(c *laneConn) { c.Close() },
		"by the plugin":      func(c *laneConn) { c.Write([]byte("no order has this form")) },
	} {
		c := laneClient(t, memory.Plugin())
		for range 3 {
			lines, err := everything(t, c.Source(sdktest.MemoryType), sdk.ReadOpen{Address: memory.Address(""), Once: true})
			if err != nil || len(lines) != 4 {
				t.Errorf("%s: %q, %v", name, lines, err)
			}
			talk := c.talks.Load().talk
			end(talk.conn.(*laneConnection).conn)
			until(t, "the talk has ended", talk.hasEnded)
		}
	}
}

// Reads that end and that are cut give their descriptors back.
func TestAnswersLeaveNoDescriptors(t *testing.T) {
	memory := &sdktest.Memory{}
	memory.Put("large", sdktest.Pattern(1, 4<<20))
	before := descriptors(t)
	t.Run("answers", func(t *testing.T) {
		c := laneClient(t, memory.Plugin())
		var streams []sdk.ReadStream
		for range 2 * idleWorkers {
			stream, err := c.Source(sdktest.MemoryType).Read(t.Context(), sdk.ReadOpen{Address: memory.Address(""), Once: true})
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, stream)
		}
		for i, s := range streams {
			for range i % 4 {
				f, err := s.Recv()
				if err != nil {
					t.Fatal(err)
				}
				sdk.Release(f)
			}
			s.Close()
		}
	})
	until(t, "the descriptors are back", func() bool { return descriptors(t) <= before })
}

package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"
)

// refresh is how often progress is read and shown.
const refresh = 100 * time.Millisecond

// console is where the demo shows what happens.
type console struct {
	out  io.Writer
	bars bool
}

// newConsole returns a console with bars, if out is a terminal and plain is not asked for.
func newConsole(out *os.File, plain bool) *console {
	return &console{out: out, bars: !plain && cwriter.IsTerminal(int(out.Fd()))}
}

func (c *console) print(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// gauge shows how much of a total is done.
type gauge interface {
	set(done int64)
	// end says how it ended. complete means with all of the total.
	end(text string, complete bool)
}

// during shows what done returns, out of a total, while work runs. work returns what to say of its end.
func (c *console) during(total int64, done func() (int64, error), work func() (string, error)) error {
	var g gauge
	if c.bars {
		g = newBar(c.out, total)
	} else {
		g = &lines{console: c, total: total}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		follow(g, done, stop)
	}()
	text, err := work()
	close(stop)
	<-stopped
	if err != nil {
		text = "failed"
	}
	g.end(text, err == nil && text == "done")
	return err
}

// follow updates a gauge until stop is closed. What cannot be read now is read the next time.
func follow(g gauge, done func() (int64, error), stop <-chan struct{}) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		if n, err := done(); err == nil {
			g.set(n)
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}

// bar is a gauge on a terminal.
type bar struct {
	total     int64
	container *mpb.Progress
	bar       *mpb.Bar
	begun     time.Time
	base      atomic.Int64 // what was done before; -1 until it is known
	ended     atomic.Pointer[string]
}

func newBar(out io.Writer, total int64) *bar {
	b := &bar{total: total, begun: time.Now()}
	b.base.Store(-1)
	b.container = mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(refresh))
	// The total is set afterwards: a bar that is made with it ends by itself when all bytes are there, which is not the end yet.
	b.bar = b.container.New(0, mpb.BarStyle().Filler("=").Tip(">").Padding(" "), mpb.BarWidth(40),
		mpb.PrependDecorators(decor.Name("   ")), mpb.AppendDecorators(decor.Any(b.caption)))
	b.bar.SetTotal(total, false)
	return b
}

func (b *bar) set(done int64) {
	b.base.CompareAndSwap(-1, done)
	b.bar.SetCurrent(done)
}

// caption is what stands behind the bar.
func (b *bar) caption(s decor.Statistics) string {
	text := fmt.Sprintf("%.1f MB/s", max(0, float64(s.Current-b.base.Load())/1e6/time.Since(b.begun).Seconds()))
	if ended := b.ended.Load(); ended != nil {
		text = *ended
	}
	return fmt.Sprintf(" %3d %%  %s of %s  %s", percent(s.Current, s.Total), mebibytes(s.Current), mebibytes(s.Total), text)
}

func (b *bar) end(text string, complete bool) {
	b.ended.Store(&text)
	if complete {
		b.bar.SetTotal(b.total, true)
	} else {
		b.bar.Abort(false)
	}
	b.container.Wait()
}

// lines is a gauge that prints a line for each tenth, and one for the end.
type lines struct {
	*console
	total, done int64
	shown       int64 // the tenth that was printed last
}

func (l *lines) set(done int64) {
	l.done = done
	if tenth := percent(done, l.total) / 10; tenth > l.shown && tenth < 10 {
		l.shown = tenth
		l.show("")
	}
}

func (l *lines) end(text string, complete bool) {
	if complete {
		l.done = l.total
	}
	l.show("  " + text)
}

func (l *lines) show(text string) {
	l.print("   %3d %%  %s of %s%s", percent(l.done, l.total), mebibytes(l.done), mebibytes(l.total), text)
}

func percent(done, total int64) int64 {
	if total == 0 {
		return 100
	}
	return int64(float64(done) / float64(total) * 100)
}

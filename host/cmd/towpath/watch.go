package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/flow"
)

func flowsWatchCommand() command {
	return command{
		name: "flows watch", args: "[ID]", short: "follow data flows as they move",
		long: `
Follows one data flow until it has ended, or all that are under way until it is interrupted: how far they are, how
fast, when they will be done as far as that can be told, and why they wait. On a terminal the picture is drawn
anew; elsewhere there is a line for each flow and interval. The exit code is 1 if the flow is TERMINATED.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), fs.Bool("json", false, "print a line of JSON for each flow and interval")
			participant := contextFlag(fs)
			interval := fs.Duration("interval", time.Second, "`time` between two looks, at least 100ms")
			times := fs.Int("n", 0, "look so many `times` and stop; 0: no bound")
			return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
				if *interval < 100*time.Millisecond {
					return wrongUsage(stderr, "flows watch", "-interval is less than 100ms")
				}
				w := watch{to: to, query: inContext(*participant), interval: *interval, times: *times, out: stdout}
				switch {
				case *asJSON:
					w.print = printLines
				case isTerminal(stdout):
					w.print = redraw
				default:
					w.print = printMoves
				}
				if len(args) == 1 {
					return w.one(ctx, args[0])
				}
				return w.all(ctx)
			}
		},
	}
}

// watch looks at flows time and again.
type watch struct {
	to       adminFlags
	query    map[string][]string
	interval time.Duration
	times    int
	out      io.Writer
	print    func(io.Writer, []admin.Flow) error
}

// one follows a flow to its end.
func (w watch) one(ctx context.Context, id string) error {
	return w.loop(ctx, func() (bool, error) {
		var f admin.FlowDetail
		if err := w.to.get(ctx, flowPath(id), w.query, &f); err != nil {
			return false, err
		}
		if err := w.print(w.out, []admin.Flow{f.Flow}); err != nil {
			return false, err
		}
		if flow.State(f.State) == flow.Terminated {
			return true, errors.New(strings.TrimSuffix(fmt.Sprintf("flow %q is TERMINATED: %s", f.ID, plain(f.Reason)), ": "))
		}
		return flow.State(f.State).Final(), nil
	})
}

// all follows the flows that are under way.
func (w watch) all(ctx context.Context) error {
	for _, s := range []flow.State{flow.Preparing, flow.Starting, flow.Started} {
		w.query["state"] = append(w.query["state"], string(s))
	}
	w.query["limit"] = []string{"1000"}
	return w.loop(ctx, func() (bool, error) {
		var list admin.FlowList
		if err := w.to.get(ctx, "/api/v1/flows", w.query, &list); err != nil {
			return false, err
		}
		return false, w.print(w.out, list.Flows)
	})
}

// loop looks until there is nothing more to see, or the command is interrupted.
func (w watch) loop(ctx context.Context, look func() (over bool, err error)) error {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for n := 1; ; n++ {
		over, err := look()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || over || n == w.times {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// redraw draws a picture over the former one.
func redraw(w io.Writer, flows []admin.Flow) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  %d flows\n\n", time.Now().Format(time.DateTime), len(flows))
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row(t, "FLOW", "STATE", "PARTS", "BYTES", "DONE", "RATE", "END", "NOW")
	for _, f := range flows {
		m := movementOf(f)
		row(t, f.ID, f.State, of(m.Parts, m.TotalParts, plainCount), of(m.Bytes, m.TotalBytes, size), percent(m), rate(m), endOf(m), doing(f))
	}
	t.Flush()
	const home, clearLine, clearRest = "\x1b[H", "\x1b[K\n", "\x1b[J"
	_, err := io.WriteString(w, home+strings.ReplaceAll(b.String(), "\n", clearLine)+clearRest)
	return err
}

// printMoves writes a line for each flow.
func printMoves(w io.Writer, flows []admin.Flow) error {
	for _, f := range flows {
		m := movementOf(f)
		words := []string{time.Now().Format(time.DateTime), plain(f.ID), f.State, of(m.Parts, m.TotalParts, plainCount) + " parts",
			of(m.Bytes, m.TotalBytes, size), rate(m)}
		if m.End != nil {
			words = append(words, "ends "+endOf(m))
		}
		if d := doing(f); d != "" {
			words = append(words, plain(d))
		}
		if _, err := fmt.Fprintln(w, strings.Join(words, "  ")); err != nil {
			return err
		}
	}
	return nil
}

func printLines(w io.Writer, flows []admin.Flow) error {
	for _, f := range flows {
		line, err := json.Marshal(f)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// movementOf is how a flow moves; what is durable of it stands for what moved if nothing is known of that.
func movementOf(f admin.Flow) admin.Movement {
	if f.Movement != nil {
		return *f.Movement
	}
	return admin.Movement{Parts: f.Parts, Bytes: f.Bytes, Records: f.Records}
}

// runs reports whether something of a flow runs.
func runs(m *admin.Movement) bool { return m != nil && (m.Condition != "" || m.Requests > 0) }

// doing says what a flow waits for or is busy with.
func doing(f admin.Flow) string {
	if text := note(f); text != "" {
		return text
	}
	m := f.Movement
	switch {
	case !runs(m):
		return ""
	case m.Requests > 0:
		return fmt.Sprintf("serves %d requests, %s since the host began", m.Requests, size(m.Served))
	case m.Part != "" && m.PartSize != nil:
		return fmt.Sprintf("%q, %s", m.Part, of(m.PartBytes, *m.PartSize, size))
	case m.Part != "":
		return fmt.Sprintf("%q, %s", m.Part, size(m.PartBytes))
	}
	return ""
}

// moving is a line about a flow that moves, "" if it does not.
func moving(f admin.Flow) string {
	if !runs(f.Movement) {
		return ""
	}
	m := movementOf(f)
	words := []string{of(m.Parts, m.TotalParts, plainCount) + " parts", of(m.Bytes, m.TotalBytes, size), rate(m)}
	if p := percent(m); p != "" {
		words[1] += " (" + p + ")"
	}
	if m.End != nil {
		words = append(words, "ends about "+when(m.End))
	}
	if m.Part != "" || m.Requests > 0 {
		words = append(words, doing(admin.Flow{Movement: &m}))
	}
	return strings.Join(words, ", ")
}

func plainCount(n int64) string { return fmt.Sprint(n) }

// of is how much of something there is.
func of(n, all int64, show func(int64) string) string {
	if all <= 0 {
		return show(n)
	}
	return show(n) + " of " + show(all)
}

func percent(m admin.Movement) string {
	if m.TotalBytes <= 0 {
		return ""
	}
	return fmt.Sprintf("%d %%", int(float64(min(m.Bytes, m.TotalBytes))/float64(m.TotalBytes)*100))
}

func rate(m admin.Movement) string {
	text := size(m.BytesPerSecond) + "/s"
	if m.RecordsPerSecond > 0 {
		text += fmt.Sprintf(", %d records/s", m.RecordsPerSecond)
	}
	return text
}

// endOf is when a flow ends: a time of today, or a date too.
func endOf(m admin.Movement) string {
	switch {
	case m.End == nil:
		return ""
	case time.Until(*m.End) < 12*time.Hour:
		return m.End.Local().Format(time.TimeOnly)
	}
	return when(m.End)
}

// size is a number of bytes as a person reads it.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 5 {
		value /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[prefix])
}

package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/flow"
)

func flowsListCommand() command {
	return command{
		name: "flows list", short: "list the data flows of a running host",
		long: `
Lists data flows, newest first, with what is durable of them and why they wait, if they do.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			participant := fs.String("context", "", "only flows of this participant `context`")
			state := fs.String("state", "", "only flows in these `states`, as STARTED,SUSPENDED")
			limit := fs.Int("limit", 100, "at most so many, up to 1000")
			return func(ctx context.Context, _ []string, stdout, stderr io.Writer) error {
				query := inContext(*participant)
				query.Set("limit", fmt.Sprint(*limit))
				if *limit < 1 || *limit > 1000 {
					return wrongUsage(stderr, "flows list", "-limit is from 1 to 1000")
				}
				for s := range strings.SplitSeq(*state, ",") {
					if s == "" {
						continue
					}
					if !slices.Contains(flow.States(), flow.State(strings.ToUpper(s))) {
						return wrongUsage(stderr, "flows list", fmt.Sprintf("there is no state %q", s))
					}
					query.Add("state", s)
				}
				var list admin.FlowList
				if err := to.get(ctx, "/api/v1/flows", query, &list); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, list)
				}
				return printFlows(stdout, list.Flows)
			}
		},
	}
}

func flowsShowCommand() command {
	return command{
		name: "flows show", args: "ID", short: "show one data flow with its parts and callbacks",
		long: `
Shows everything an operator may know of a data flow: its state and why it waits, what is durable, its parts
with their digests, and the callbacks to its control plane, delivered or not. Secrets are not shown.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			participant := contextFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				var f admin.FlowDetail
				if err := to.get(ctx, flowPath(args[0]), inContext(*participant), &f); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, f)
				}
				return printFlow(stdout, f)
			}
		},
	}
}

func flowPath(id string) string { return "/api/v1/flows/" + url.PathEscape(id) }

func printFlows(w io.Writer, flows []admin.Flow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	// Who has one participant context need not know that there can be more.
	several := slices.ContainsFunc(flows, func(f admin.Flow) bool { return f.Context != "default" })
	id := func(id, context string) []any {
		if several {
			return []any{id, context}
		}
		return []any{id}
	}
	row(t, append(id("FLOW", "CONTEXT"), "ROLE", "DIRECTION", "STATE", "DATASET", "PARTS", "BYTES", "RATE", "UPDATED", "NOTE")...)
	for _, f := range flows {
		row(t, append(id(f.ID, f.Context), f.Role, f.Direction, f.State, f.Dataset, f.Parts, f.Bytes, rateOf(f), when(&f.Updated), note(f))...)
	}
	return t.Flush()
}

// rateOf is how fast a flow moves, "-" if it does not.
func rateOf(f admin.Flow) string {
	if !runs(f.Movement) {
		return "-"
	}
	return rate(*f.Movement)
}

// note is what an operator should know first.
func note(f admin.Flow) string {
	response := ""
	if f.Response != nil {
		response = f.Response.Fault
	}
	return cmp.Or(f.Fault, response, f.Waiting, f.RenewalFault, f.Reason)
}

func printFlow(w io.Writer, f admin.FlowDetail) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			row(t, name, value)
		}
	}
	line("flow", f.ID)
	if f.Context != "default" {
		line("context", f.Context)
	}
	line("role", f.Role+", "+f.Direction)
	line("state", f.State)
	line("moving", moving(f.Flow))
	line("waiting", f.Waiting)
	line("fault", f.Fault)
	line("rests at part", f.FaultPart)
	line("reason", f.Reason)
	line("profile", f.Profile)
	line("dataset", f.Dataset)
	line("agreement", f.Agreement)
	line("counterparty", f.CounterParty)
	line("control plane", f.ControlPlane)
	line("local address", showAddress(f.Local))
	line("remote address", showAddress(f.Remote))
	if f.RemoteSince != nil {
		line("token since", when(f.RemoteSince))
	}
	line("renewal failed", f.RenewalFault)
	line("issued address", showAddress(f.Issued))
	line("durable", fmt.Sprintf("%d parts, %d bytes, %d records", f.Parts, f.Bytes, f.Records))
	if m := f.Movement; m != nil {
		if m.Served > 0 {
			line("served", size(m.Served)+" since the host began")
		}
		if m.Copied > 0 {
			line("copied", fmt.Sprintf("%d bytes inside their store", m.Copied))
		}
		line("condition", m.Condition)
		line("waits for", waitsFor(m))
		line("has waited for", blocked(m.BlockedSeconds))
	}
	line("digest", f.Digest)
	line("response channel", showAddress(f.ResponseChannel))
	line("response sink", showAddress(f.ResponseSink))
	if r := f.Response; r != nil {
		line("responses", fmt.Sprintf("%d parts, %d bytes, %d records", r.Parts, r.Bytes, r.Records))
		if m := r.Movement; m != nil {
			line("responses now", fmt.Sprintf("%s, %d requests", rate(*m), m.Requests))
			line("responses wait for", waitsFor(m))
		}
		line("responses waiting", r.Waiting)
		line("responses fault", r.Fault)
	}
	line("created", when(&f.Created))
	line("updated", when(&f.Updated))
	t.Flush()
	printParts(w, t, "PART", f.PartList)
	printParts(w, t, "RESPONSE", f.ResponseList)
	if len(f.Skipped) > 0 {
		fmt.Fprintln(w)
		row(t, "SKIPPED PART", "AT", "FAILURE")
		for _, s := range f.Skipped {
			row(t, s.Part, when(&s.At), s.Reason)
		}
		t.Flush()
	}
	if len(f.Callbacks) > 0 {
		fmt.Fprintln(w)
		row(t, "CALLBACK", "STATUS", "ATTEMPTS", "NEXT", "LAST ERROR")
		for _, c := range f.Callbacks {
			row(t, c.Kind, c.Status, c.Attempts, when(c.Next), c.LastError)
		}
	}
	return t.Flush()
}

func printParts(w io.Writer, t *tabwriter.Writer, what string, parts []admin.Part) {
	if len(parts) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(t, what, "NAME", "BYTES", "CRC32C", "SHA256", "LOCATION")
	for _, p := range parts {
		row(t, p.Index, p.Name, p.Size, dash(p.CRC32C), dash(fmt.Sprintf("%.16s", p.SHA256)), p.Location)
	}
	t.Flush()
}

// waitsFor is what is waited for at this moment.
func waitsFor(m *admin.Movement) string {
	if m.Limit != "" {
		return "the limit of " + m.Limit
	}
	return m.WaitsFor
}

// blocked says how long a flow has waited, for whom it has waited longest first.
func blocked(seconds map[string]float64) string {
	var list []string
	names := slices.SortedFunc(maps.Keys(seconds), func(a, b string) int {
		return cmp.Or(cmp.Compare(seconds[b], seconds[a]), cmp.Compare(a, b))
	})
	for _, name := range names {
		d := time.Duration(seconds[name] * float64(time.Second))
		list = append(list, name+" "+d.Round(10*time.Millisecond).String())
	}
	return strings.Join(list, ", ")
}

func showAddress(a *admin.Address) string {
	if a == nil {
		return ""
	}
	return strings.TrimSpace(a.Type + " " + a.Endpoint)
}

// when is a time as a person here reads it.
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// row writes a line of a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		text := plain(fmt.Sprint(c))
		if i > 0 {
			text = "\t" + text
		}
		io.WriteString(w, text)
	}
	io.WriteString(w, "\n")
}

// plain returns a text without control characters: they could come from other hosts, and would break a table or the terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/sdk"
)

const limitsPath = "/api/v1/limits"

// aboutScopes is what a SCOPE can be.
const aboutScopes = `
SCOPE is one of

  host                          all flows together
  context=NAME                  those of a participant context
  counterparty=ID, dataset=ID   those of one counterparty or dataset
  flow=ID                       one flow
  profile=NAME                  (only a weight) each flow of a profile whose dataset has no weight
  counterparty, dataset, flow   each of them that has nothing of its own`

func limitsListCommand() command {
	return command{
		name: "limits list", short: "list the limits that hold in a running host",
		long: `
Lists what holds for the host, participant contexts, counterparties, datasets, profiles and flows: bytes and
records per second in both directions, transfers at a time, and weights. ORIGIN says whether that is from the
configuration (file) or was set; RUNNING and QUEUED are transfers, WAITING are transfers and requests that wait
for a rate at this moment.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			participant := fs.String("context", "", "only limits of this participant `context`")
			return func(ctx context.Context, _ []string, stdout, _ io.Writer) error {
				var list admin.LimitList
				if err := to.get(ctx, limitsPath, inContext(*participant), &list); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, list)
				}
				return printLimits(stdout, list.Limits)
			}
		},
	}
}

func limitsSetCommand() command {
	return command{
		name: "limits set", args: "SCOPE", short: "limit rates and transfers in a running host",
		long: `
Sets limits in a running host, at once and for good: they go before those of its configuration, and are kept past
restarts; those of a flow until it has ended. What no flag names stays as it is.
` + aboutScopes + `

  towpath limits set host -bytes 100MiB -transfers 64
  towpath limits set counterparty=did:web:them.example -bytes 10MiB -weight 2`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON, participant := addAdminFlags(fs), jsonFlag(fs), contextFlag(fs)
			var set admin.LimitValues
			fs.Func("bytes", "bytes per second, as 10MiB, or none: `size`", valueFlag(&set.BytesPerSecond, sdk.ParseSize))
			fs.Func("records", "records per second, or none: `number`", valueFlag(&set.RecordsPerSecond, wholeNumber))
			fs.Func("transfers", "transfers at a time, or none: `number`", valueFlag(&set.Transfers, wholeNumber))
			fs.Func("weight", "share in comparison to others of its kind, from 1 to 1000: `number`", valueFlag(&set.Weight, wholeNumber))
			return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
				if set == (admin.LimitValues{}) {
					return wrongUsage(stderr, "limits set", "needs at least one of -bytes, -records, -transfers, -weight")
				}
				path, err := limitPath(args[0])
				if err != nil {
					return wrongUsage(stderr, "limits set", err.Error())
				}
				query := limitQuery(args[0], *participant)
				var now admin.Limit
				if err := to.get(ctx, path, query, &now); err != nil {
					return err
				}
				content, err := json.Marshal(over(set, now.Set))
				if err != nil {
					return err
				}
				if _, err := to.call(ctx, http.MethodPut, path, query, bytes.NewReader(content), &now); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, now)
				}
				return printLimits(stdout, []admin.Limit{now})
			}
		},
	}
}

func limitsClearCommand() command {
	return command{
		name: "limits clear", args: "SCOPE", short: "take back limits that were set",
		long: `
Takes back what was set in a running host. What its configuration says holds again.
` + aboutScopes,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, participant := addAdminFlags(fs), contextFlag(fs)
			return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
				path, err := limitPath(args[0])
				if err != nil {
					return wrongUsage(stderr, "limits clear", err.Error())
				}
				var now admin.Limit
				if _, err := to.call(ctx, http.MethodDelete, path, limitQuery(args[0], *participant), nil, &now); err != nil {
					return err
				}
				return printLimits(stdout, []admin.Limit{now})
			}
		},
	}
}

// limitPath is where the limits of a SCOPE are.
func limitPath(scope string) (string, error) {
	kind, id, one := strings.Cut(scope, "=")
	words := map[string]string{"context": "contexts", "counterparty": "counterparties", "dataset": "datasets", "profile": "profiles", "flow": "flows"}
	word, ok := words[kind]
	alone := !one && kind != "context" && kind != "profile"
	switch {
	case scope == "host":
		return limitsPath + "/host", nil
	case !ok, !one && !alone, one && id == "":
		return "", fmt.Errorf("%q is no SCOPE", scope)
	case one:
		return limitsPath + "/" + word + "/" + url.PathEscape(id), nil
	}
	return limitsPath + "/" + word, nil
}

// limitQuery is the query for a SCOPE: its own name is the participant context of a context.
func limitQuery(scope, participant string) url.Values {
	if strings.HasPrefix(scope, "context=") {
		participant = ""
	}
	return inContext(participant)
}

// over returns what is set now with what is set anew.
func over(set admin.LimitValues, now *admin.LimitValues) admin.LimitValues {
	if now == nil {
		return set
	}
	for _, v := range []struct{ set, now **int64 }{{&set.BytesPerSecond, &now.BytesPerSecond}, {&set.RecordsPerSecond, &now.RecordsPerSecond},
		{&set.Transfers, &now.Transfers}, {&set.Weight, &now.Weight}} {
		if *v.set == nil {
			*v.set = *v.now
		}
	}
	return set
}

// valueFlag reads a number, or none.
func valueFlag(into **int64, parse func(string) (int64, error)) func(string) error {
	return func(s string) error {
		n, err := int64(0), error(nil)
		if s != "none" {
			n, err = parse(s)
		}
		*into = &n
		return err
	}
}

func wholeNumber(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return int64(n), nil
}

func printLimits(w io.Writer, limits []admin.Limit) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "SCOPE", "ID", "CONTEXT", "BYTES/S", "RECORDS/S", "TRANSFERS", "WEIGHT", "ORIGIN", "RUNNING", "QUEUED", "WAITING")
	for _, l := range limits {
		id := l.ID
		if id == "" && l.Scope != "host" {
			id = "(each)"
		}
		var origin []string
		if l.Configured != nil {
			origin = append(origin, "file")
		}
		if l.Set != nil {
			origin = append(origin, "set")
		}
		row(t, l.Scope, dash(id), dash(l.Context), sizeOrDash(l.InForce.BytesPerSecond), numberOrDash(l.InForce.RecordsPerSecond),
			numberOrDash(l.InForce.Transfers), numberOrDash(l.InForce.Weight), dash(strings.Join(origin, ", ")), l.Running, l.Queued, l.Waiting)
	}
	return t.Flush()
}

// numberOrDash shows a limit; 0 is none.
func numberOrDash(n *int64) string {
	if n == nil || *n == 0 {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func sizeOrDash(n *int64) string {
	if n == nil || *n == 0 {
		return "-"
	}
	size, unit := *n, ""
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size%1024 != 0 {
			break
		}
		size, unit = size/1024, next
	}
	return strconv.FormatInt(size, 10) + unit
}

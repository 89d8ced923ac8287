package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
)

// defaultAdmin is where a host that says nothing else serves its admin API.
const defaultAdmin = "http://127.0.0.1:18082"

// adminFlags say which host to ask.
type adminFlags struct{ url, config *string }

func addAdminFlags(fs *flag.FlagSet) adminFlags {
	return adminFlags{
		fs.String("admin", os.Getenv("TOWPATH_ADMIN_URL"), "`URL` of the host's admin API; also from TOWPATH_ADMIN_URL (default "+defaultAdmin+")"),
		fs.String("config", "", "take the URL from this HCL `file` or directory instead"),
	}
}

func (a adminFlags) base() (string, error) {
	switch {
	case *a.url != "":
		return strings.TrimSuffix(*a.url, "/"), nil
	case *a.config == "":
		return defaultAdmin, nil
	}
	cfg, err := config.Load(*a.config)
	if err != nil {
		return "", err
	}
	if cfg.Admin.TLS != nil {
		return "https://" + cfg.Admin.Address, nil
	}
	return "http://" + cfg.Admin.Address, nil
}

// get asks the admin API and decodes its answer.
func (a adminFlags) get(ctx context.Context, path string, query url.Values, into any) error {
	base, err := a.base()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the host (does it run? -admin or -config say where): %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return json.NewDecoder(resp.Body).Decode(into)
	}
	var problem struct{ Detail string }
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&problem); problem.Detail == "" {
		problem.Detail = resp.Status
	}
	err = errors.New(problem.Detail)
	if resp.StatusCode == http.StatusNotFound {
		return errNotFound{err}
	}
	return err
}

func flowsListCommand() command {
	return command{
		name: "flows list", short: "list the data flows of a running host",
		long: `
Lists data flows, newest first, with what is durable of them and why they wait, if they do.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			state := fs.String("state", "", "only flows in these `states`, as STARTED,SUSPENDED")
			limit := fs.Int("limit", 100, "at most so many, up to 1000")
			return func(ctx context.Context, _ []string, stdout, _ io.Writer) error {
				query := url.Values{"limit": {fmt.Sprint(*limit)}}
				for s := range strings.SplitSeq(*state, ",") {
					if s != "" {
						query.Add("state", s)
					}
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
			participant := fs.String("context", "", "participant `context` of the flow (default \"default\")")
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				query := url.Values{}
				if *participant != "" {
					query.Set("context", *participant)
				}
				var f admin.FlowDetail
				if err := to.get(ctx, "/api/v1/flows/"+url.PathEscape(args[0]), query, &f); err != nil {
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

func printFlows(w io.Writer, flows []admin.Flow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FLOW\tROLE\tDIRECTION\tSTATE\tDATASET\tPARTS\tBYTES\tUPDATED\tNOTE")
	for _, f := range flows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", f.ID, f.Role, f.Direction, f.State, f.Dataset, f.Parts, f.Bytes,
			f.Updated.Local().Format(time.DateTime), note(f))
	}
	return t.Flush()
}

// note is what an operator should know first.
func note(f admin.Flow) string {
	for _, s := range []string{f.Fault, f.Waiting, f.Reason} {
		if s != "" {
			return s
		}
	}
	return ""
}

func printFlow(w io.Writer, f admin.FlowDetail) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("flow", f.ID)
	if f.Context != "default" {
		line("context", f.Context)
	}
	line("role", f.Role+", "+f.Direction)
	line("state", f.State)
	line("waiting", f.Waiting)
	line("fault", f.Fault)
	line("reason", f.Reason)
	line("profile", f.Profile)
	line("dataset", f.Dataset)
	line("agreement", f.Agreement)
	line("counterparty", f.CounterParty)
	line("control plane", f.ControlPlane)
	line("local address", showAddress(f.Local))
	line("remote address", showAddress(f.Remote))
	line("issued address", showAddress(f.Issued))
	line("durable", fmt.Sprintf("%d parts, %d bytes, %d records", f.Parts, f.Bytes, f.Records))
	line("digest", f.Digest)
	line("created", f.Created.Local().Format(time.DateTime))
	line("updated", f.Updated.Local().Format(time.DateTime))
	t.Flush()
	if len(f.PartList) > 0 {
		fmt.Fprintln(t, "\nPART\tNAME\tBYTES\tCRC32C\tSHA256\tLOCATION")
		for _, p := range f.PartList {
			fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%.16s\t%s\n", p.Index, p.Name, p.Size, dash(p.CRC32C), dash(p.SHA256), p.Location)
		}
		t.Flush()
	}
	if len(f.Callbacks) > 0 {
		fmt.Fprintln(t, "\nCALLBACK\tSTATUS\tATTEMPTS\tNEXT\tLAST ERROR")
		for _, c := range f.Callbacks {
			next := "-"
			if c.Next != nil {
				next = c.Next.Local().Format(time.DateTime)
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", c.Kind, c.Status, c.Attempts, next, c.LastError)
		}
	}
	return t.Flush()
}

func showAddress(a *admin.Address) string {
	if a == nil {
		return ""
	}
	return strings.TrimSpace(a.Type + " " + a.Endpoint)
}

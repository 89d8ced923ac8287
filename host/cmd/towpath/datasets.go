package main

import (
	"bytes"
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

	"github.com/towpath-dataplane/towpath/host/admin"
)

const datasetsPath = "/api/v1/datasets"

func datasetPath(id string) string { return datasetsPath + "/" + url.PathEscape(id) }

func datasetsListCommand() command {
	return command{
		name: "datasets list", short: "list the datasets of a running host",
		long: `
Lists the datasets that a host knows: those of its configuration (file), and those that were put (api).`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			participant := fs.String("context", "", "only datasets of this participant `context`")
			return func(ctx context.Context, _ []string, stdout, _ io.Writer) error {
				var list admin.DatasetList
				if err := to.get(ctx, datasetsPath, inContext(*participant), &list); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, list)
				}
				return printDatasets(stdout, list.Datasets)
			}
		},
	}
}

func datasetsShowCommand() command {
	return command{
		name: "datasets show", args: "ID", short: "show one dataset",
		long: `
Shows a dataset: what it reads and writes. The values of an address's properties are not shown, nor the query of
its endpoint: they could be secrets.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON, participant := addAdminFlags(fs), jsonFlag(fs), contextFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				var d admin.Dataset
				if err := to.get(ctx, datasetPath(args[0]), inContext(*participant), &d); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, d)
				}
				return printDataset(stdout, d)
			}
		},
	}
}

func datasetsPutCommand() command {
	return command{
		name: "datasets put", args: "FILE", short: "create or replace a dataset",
		long: `
Puts a dataset into a running host, which keeps it; the file, or - for standard input, is JSON:

  {"id": "orders", "mode": "auto",
   "source": {"type": "File", "properties": {"path": "outbox/orders.csv"}},
   "sink":   {"type": "File", "properties": {"path": "inbox"}}}

The id is required, and a source, a sink or both. The source is read when this side provides the dataset, the sink
is written when it consumes it; "context" names another participant context than the default one. Both addresses are checked by
their plugins first. Flows that use the dataset go on with what it was before.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON, participant := addAdminFlags(fs), jsonFlag(fs), contextFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				id, content, err := readDataset(args[0])
				if err != nil {
					return err
				}
				var d admin.Dataset
				status, err := to.call(ctx, http.MethodPut, datasetPath(id), inContext(*participant), bytes.NewReader(content), &d)
				if err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, d)
				}
				done := "replaced"
				if status == http.StatusCreated {
					done = "created"
				}
				fmt.Fprintf(stdout, "dataset %q %s\n", d.ID, done)
				return nil
			}
		},
	}
}

// readDataset reads a dataset's file, and finds its id. The host says what else is wrong with it.
func readDataset(name string) (id string, content []byte, err error) {
	if name == "-" {
		content, err = io.ReadAll(os.Stdin)
	} else {
		content, err = os.ReadFile(name)
	}
	if err != nil {
		return "", nil, err
	}
	var dataset struct{ ID string }
	var syntax *json.SyntaxError
	switch err := json.Unmarshal(content, &dataset); {
	case errors.As(err, &syntax):
		return "", nil, fmt.Errorf("%s is not JSON: %w at byte %d", name, err, syntax.Offset)
	case err != nil:
		return "", nil, fmt.Errorf("%s: %w", name, err)
	case dataset.ID == "":
		return "", nil, fmt.Errorf("%s: id: is required", name)
	}
	return dataset.ID, content, nil
}

func datasetsRemoveCommand() command {
	return command{
		name: "datasets remove", args: "ID", short: "remove a dataset that was put",
		long: `
Removes a dataset that was put into a running host. Those of its configuration are removed there. Flows that use
the dataset go on.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, participant := addAdminFlags(fs), contextFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				if _, err := to.call(ctx, http.MethodDelete, datasetPath(args[0]), inContext(*participant), nil, nil); err != nil {
					return err
				}
				fmt.Fprintf(stdout, "dataset %q removed\n", args[0])
				return nil
			}
		},
	}
}

func printDatasets(w io.Writer, datasets []admin.Dataset) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "DATASET", "CONTEXT", "ORIGIN", "MODE", "READS", "WRITES")
	for _, d := range datasets {
		row(t, d.ID, d.Context, d.Origin, dash(d.Mode), dash(showAddress(d.Source)), dash(showAddress(d.Sink)))
	}
	return t.Flush()
}

func printDataset(w io.Writer, d admin.Dataset) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "dataset", d.ID)
	row(t, "context", d.Context)
	row(t, "origin", d.Origin)
	if d.Mode != "" {
		row(t, "mode", d.Mode)
	}
	for _, side := range []struct {
		name    string
		address *admin.Address
	}{{"source", d.Source}, {"sink", d.Sink}} {
		if side.address == nil {
			continue
		}
		row(t, side.name, showAddress(side.address))
		if len(side.address.Properties) > 0 {
			row(t, "", "with "+strings.Join(side.address.Properties, ", "))
		}
	}
	if d.Updated != nil {
		row(t, "updated", when(d.Updated))
	}
	return t.Flush()
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/sdk"
)

// operation is a command that has the host do something to a flow.
func operation(name, path, short, long, done string, more func(*flag.FlagSet) func(url.Values)) command {
	return command{
		name: "flows " + name, args: "ID", short: short, long: long,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON, participant := addAdminFlags(fs), jsonFlag(fs), contextFlag(fs)
			set := func(url.Values) {}
			if more != nil {
				set = more(fs)
			}
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				query := inContext(*participant)
				set(query)
				var f admin.Flow
				if _, err := to.call(ctx, http.MethodPost, flowPath(args[0])+"/"+path, query, nil, &f); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, f)
				}
				fmt.Fprintf(stdout, "flow %q %s: %s\n", f.ID, done, f.State)
				return nil
			}
		},
	}
}

// textFlag is a flag that becomes a parameter of the query if it is given.
func textFlag(name, usage string) func(*flag.FlagSet) func(url.Values) {
	return func(fs *flag.FlagSet) func(url.Values) {
		value := fs.String(name, "", usage)
		return func(query url.Values) {
			if *value != "" {
				query.Set(name, *value)
			}
		}
	}
}

func flowsRetryCommand() command {
	return operation("retry", "retry", "let a data flow go on that rests with a fault", `
Lets a data flow go on that has reported a failure and rests, from where it was. Callbacks to its control plane
that were given up are tried again. It does not wait for the data.`, "is tried again", nil)
}

func flowsSkipCommand() command {
	return operation("skip", "skip", "give up the part that a data flow rests at", `
Gives up the part at which a data flow has failed for good, and lets the flow go on with the next. The part does
not reach the counterparty; "flows show" keeps it with the failure.`, "goes on without the part",
		textFlag("part", "`name` of the part, to be sure that it is this one"))
}

func flowsResendCommand() command {
	return operation("resend", "resend", "have a data flow begin again from its start", `
Has a data flow that is STARTED or SUSPENDED move all its data once more, from its start: for a stream without an
end whose receiver has lost some of it. Parts replace those of the same name.`, "begins again", nil)
}

func flowsTerminateCommand() command {
	return operation("terminate", "abort", "end a data flow that nobody else ends", `
Ends a data flow for good. Its tokens die, nothing moves any more, and the sink lets go of what it had not finished.
The control plane hears of it by the callback "errored": it is better to have it terminate the flow itself.`, "is ended",
		textFlag("reason", "`why`, for the control plane and whoever looks later"))
}

func flowsAddressCommand() command {
	return command{
		name: "flows address", args: "ID", short: "show where the counterparty serves a data flow, with the token",
		long: `
Shows the counterparty's address of a started data flow, with a token that is good now: it is renewed first if it
is about to run out. The token is a secret. With it a local application reads the data itself:

  curl -H "Authorization: Bearer $(towpath flows address ID -token)" URL

The address also has the response channel, if the counterparty has opened one; that of a push has nothing else.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON, participant := addAdminFlags(fs), jsonFlag(fs), contextFlag(fs)
			bare := fs.Bool("token", false, "print the token and nothing else")
			back := fs.Bool("response", false, "print the token of the response channel and nothing else")
			return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
				if *bare && *asJSON || *back && (*bare || *asJSON) {
					return wrongUsage(stderr, "flows address", "-token, -response and -json exclude each other")
				}
				var a sdk.DataAddress
				if err := to.get(ctx, flowPath(args[0])+"/address", inContext(*participant), &a); err != nil {
					return err
				}
				switch {
				case *bare:
					return printToken(stdout, a, "authorization")
				case *back:
					return printToken(stdout, a, "responseChannel-authorization")
				case *asJSON:
					return printJSON(stdout, a)
				}
				return printAddress(stdout, a)
			}
		},
	}
}

func printToken(w io.Writer, a sdk.DataAddress, property string) error {
	token := a.Get(property)
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	if token == "" {
		return fmt.Errorf("the address has no such token: it has no property %q", property)
	}
	fmt.Fprintln(w, token)
	return nil
}

func printAddress(w io.Writer, a sdk.DataAddress) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "type", a.Type)
	if a.Endpoint != "" {
		row(t, "endpoint", a.Endpoint)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Properties)) {
		row(t, name, a.Properties[name])
	}
	return t.Flush()
}

func flowsAgreementCommand() command {
	return command{
		name: "flows agreement", args: "ID", short: "show the agreement that a data flow is under",
		long: `
Shows the agreement of a data flow as JSON. The host asks the flow's control plane for it.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, participant := addAdminFlags(fs), contextFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				var agreement json.RawMessage
				if err := to.get(ctx, flowPath(args[0])+"/agreement", inContext(*participant), &agreement); err != nil {
					return err
				}
				return printJSON(stdout, agreement)
			}
		},
	}
}

func flowsDataCommand() command {
	return command{
		name: "flows data", args: "ID", short: "read the data of a data flow from the counterparty",
		long: `
Reads the data of a started data flow through the host, which knows the counterparty's address and token. The
data goes to standard output or, with -o, to a file, which is there only when it is whole. If the data has
several parts, -part says which; without it they are listed as an error.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, participant := addAdminFlags(fs), contextFlag(fs)
			part := fs.String("part", "", "`name` of the part to read")
			file := fs.String("o", "-", "write to this `file`; - is standard output")
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				path := flowPath(args[0]) + "/data"
				if *part != "" {
					path += "/parts/" + escapeName(*part)
				}
				resp, err := to.do(ctx, http.MethodGet, path, inContext(*participant), nil)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media == partsType && *part == "" {
					return chooseAPart(resp.Body)
				}
				if *file == "-" {
					return copyData(stdout, resp.Body)
				}
				return saveData(*file, resp.Body)
			}
		},
	}
}

// escapeName escapes the elements of a part's name, but not the slashes between them.
func escapeName(name string) string {
	elements := strings.Split(name, "/")
	for i, e := range elements {
		elements[i] = url.PathEscape(e)
	}
	return strings.Join(elements, "/")
}

// partsType is the media type of a list of parts, in place of the data of one.
const partsType = "application/vnd.towpath.parts+json"

// chooseAPart is the error that lists the parts of a flow.
func chooseAPart(list io.Reader) error {
	var parts struct{ Parts []struct{ Name string } }
	if err := json.NewDecoder(list).Decode(&parts); err != nil {
		return fmt.Errorf("read the list of parts: %w", err)
	}
	const most = 20
	text := fmt.Sprintf("the data has %d parts, and -part says which to read", len(parts.Parts))
	for i, p := range parts.Parts {
		if i == most {
			text += "\n  ..."
			break
		}
		text += fmt.Sprintf("\n  %q", p.Name)
	}
	return errors.New(text)
}

func copyData(w io.Writer, data io.Reader) error {
	if _, err := io.Copy(w, data); err != nil {
		return fmt.Errorf("read the data, which is not whole: %w", err)
	}
	return nil
}

// saveData writes a file that gets its name when it is whole. What is there and no plain file, such as a pipe, is written to.
func saveData(name string, data io.Reader) (err error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(copyData(f, data), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return unnamed(name, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := copyData(f, data); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// unnamed is an error about a file that stands for another one, which has a name that says something.
func unnamed(name string, err error) error {
	var about *fs.PathError
	if errors.As(err, &about) {
		err = about.Err
	}
	return fmt.Errorf("write %s: %w", name, err)
}

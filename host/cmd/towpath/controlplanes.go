package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/towpath-dataplane/towpath/host/admin"
)

const controlPlanesPath = "/api/v1/controlplanes"

func controlPlanesListCommand() command {
	return command{
		name: "controlplanes list", short: "list the control planes of a running host",
		long: `
Lists the control planes that a host takes orders from: those of its configuration (file), and those that have
registered themselves (api); how they authenticate, and whether this data plane is registered with them.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON := addAdminFlags(fs), jsonFlag(fs)
			participant := fs.String("context", "", "only control planes of this participant `context`")
			return func(ctx context.Context, _ []string, stdout, _ io.Writer) error {
				var list admin.ControlPlaneList
				if err := to.get(ctx, controlPlanesPath, inContext(*participant), &list); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, list)
				}
				return printControlPlanes(stdout, list.ControlPlanes)
			}
		},
	}
}

func controlPlanesRegisterCommand() command {
	return registrationCommand("register", "make this data plane known to a control plane", `
Registers the data plane with a control plane of its configuration that has a registration block, again if it is
registered: that tells the control plane the present endpoint, profiles and labels.`)
}

func controlPlanesDeregisterCommand() command {
	return registrationCommand("deregister", "take the registration with a control plane back", `
Takes back the registration of the data plane with a control plane, which then sends no new flows. Those that
there are go on. The host does not register it again, also when it is started anew, until "controlplanes register".`)
}

// registrationCommand changes a registration by the verb, which is also the end of the path.
func registrationCommand(verb, short, long string) command {
	return command{
		name: "controlplanes " + verb, args: "ID", short: short, long: long,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			to, asJSON, participant := addAdminFlags(fs), jsonFlag(fs), contextFlag(fs)
			return func(ctx context.Context, args []string, stdout, _ io.Writer) error {
				var c admin.ControlPlane
				path := controlPlanesPath + "/" + url.PathEscape(args[0]) + "/" + verb
				if _, err := to.call(ctx, http.MethodPost, path, inContext(*participant), nil, &c); err != nil {
					return err
				}
				if *asJSON {
					return printJSON(stdout, c)
				}
				fmt.Fprintf(stdout, "control plane %q: %s\n", c.ID, registrationStatus(c))
				return nil
			}
		},
	}
}

func registrationStatus(c admin.ControlPlane) string {
	if c.Registration == nil {
		return "-"
	}
	return c.Registration.Status
}

func printControlPlanes(w io.Writer, all []admin.ControlPlane) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "CONTROL PLANE", "CONTEXT", "PROTOCOL", "ORIGIN", "AUTHORIZATION", "REGISTRATION", "ENDPOINT", "NOTE")
	for _, c := range all {
		note := ""
		if r := c.Registration; r != nil {
			note = r.LastError
			if r.Next != nil {
				note = strings.TrimPrefix(note+"; next attempt "+when(r.Next), "; ")
			}
		}
		row(t, c.ID, c.Context, c.Protocol, c.Origin, dash(strings.Join(c.Authorization, ", ")), registrationStatus(c), c.Endpoint, note)
	}
	return t.Flush()
}

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/towpath-dataplane/towpath/host/config"
	"github.com/towpath-dataplane/towpath/host/identity"
	"github.com/towpath-dataplane/towpath/sdk/outbound"
)

// signers are the keys of the participant contexts that have a DID, by context.
type signers map[string]*identity.Signer

// loadSigners loads the keys, and makes those that are not there yet.
func loadSigners(cfg *config.Config) (signers, error) {
	s := signers{}
	for _, c := range cfg.ParticipantContexts {
		if c.DID == "" {
			continue
		}
		signer, err := identity.LoadSigner(c.Key, c.DID, c.KeyID)
		if err != nil {
			return nil, fmt.Errorf("key of participant context %s: %w", c.Name, err)
		}
		s[c.Name] = signer
	}
	return s, nil
}

// of returns the key of a participant context, nil if it has none.
func (s signers) of(participantContext string) *identity.Signer { return s[participantContext] }

// dids are the DIDs of all contexts.
func (s signers) dids() []string {
	var all []string
	for _, signer := range s {
		all = append(all, signer.DID())
	}
	return all
}

// overHTTP says whether a policy lets a host be asked over plain HTTP.
func overHTTP(p *outbound.Policy) func(host string) bool {
	return func(host string) bool { return p.CheckURL(&url.URL{Scheme: "http", Host: host, Path: "/"}) == nil }
}

func participantsListCommand() command {
	return command{
		name: "participants list", short: "list the participant contexts of a configuration",
		long: `
Lists the participant contexts of a configuration: who they are towards counterparties, and which control planes
give orders in them.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path := configFlag(fs)
			return func(_ context.Context, _ []string, stdout, _ io.Writer) error {
				cfg, err := config.Load(*path)
				if err != nil {
					return err
				}
				return printParticipants(stdout, cfg)
			}
		},
	}
}

func printParticipants(w io.Writer, cfg *config.Config) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CONTEXT\tDID\tKEY\tCONTROL PLANES\tDATASETS")
	for _, c := range cfg.ParticipantContexts {
		var controlPlanes []string
		for _, cp := range cfg.ControlPlanes {
			if cp.ParticipantContext == c.Name {
				controlPlanes = append(controlPlanes, cp.ID)
			}
		}
		if !c.RegistrationKey.IsZero() {
			controlPlanes = append(controlPlanes, "those that register")
		}
		datasets := 0
		for _, d := range cfg.Datasets {
			if d.ParticipantContext == c.Name {
				datasets++
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\n", c.Name, dash(c.DID), dash(c.Key), dash(strings.Join(controlPlanes, ", ")), datasets)
	}
	return t.Flush()
}

func participantsDocumentCommand() command {
	return command{
		name: "participants document", args: "CONTEXT", short: "print the DID document of a participant context",
		long: `
Prints the DID document with the public key of a participant context, to be published where its did:web says
(…/did.json). Counterparties need it when this side renews their tokens. A key that is not there yet is made,
where the configuration says.`,
		flags: func(fs *flag.FlagSet) func(context.Context, []string, io.Writer, io.Writer) error {
			path := configFlag(fs)
			return func(_ context.Context, args []string, stdout, _ io.Writer) error {
				cfg, err := config.Load(*path)
				if err != nil {
					return err
				}
				keys, err := loadSigners(cfg)
				if err != nil {
					return err
				}
				signer := keys.of(args[0])
				if signer == nil {
					return errNotFound{fmt.Errorf("participant context %q has no did, or is not there", args[0])}
				}
				return printJSON(stdout, json.RawMessage(signer.Document()))
			}
		},
	}
}

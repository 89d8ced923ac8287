// Command ledger is a plugin with a sink for records, as data addresses of type "Ledger": for tests of what becomes of records when
// things go wrong on their way.
package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

func main() { grpcplugin.Serve(newPlugin()) }

// The forms in which records are kept.
const (
	// formJournal appends every record that comes to one file: at least once.
	formJournal = "journal"
	// formSegments names objects by the numbers of the records in them: exactly once.
	formSegments = "segments"
)

func newPlugin() sdk.Plugin {
	s := &sink{}
	return sdk.Plugin{
		Name:    "ledger",
		Version: "0.1.0",
		Config:  sdk.Schema{Fields: []sdk.Field{{Name: "root", Required: true, Documentation: "Folder to write below."}}},
		Configure: func(_ context.Context, c sdk.Config) error {
			var config struct {
				Root string `json:"root"`
			}
			if err := c.Decode(&config); err != nil {
				return err
			}
			s.root = config.Root
			return nil
		},
		Sinks: []sdk.SinkType{{Sink: s, AddressType: sdk.AddressType{
			Type:      "Ledger",
			Resumable: true,
			Address: sdk.Schema{Fields: []sdk.Field{
				{Name: "path", Required: true, Documentation: "Folder below the root."},
				{Name: "form", Default: formSegments, OneOf: []string{formJournal, formSegments}, Documentation: "How records are kept."},
			}},
		}}},
	}
}

// sink keeps of every record its number, which its first 8 bytes are, and a checksum.
type sink struct{ root string }

var (
	_ sdk.Sink          = (*sink)(nil)
	_ sdk.Deprovisioner = (*sink)(nil)
)

func (s *sink) Write(_ context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	for p, err := range parts {
		if err != nil {
			return err
		}
		if !p.PartInfo.Records {
			return sdk.Errorf(sdk.Unsupported, "a ledger takes records only")
		}
		folder := filepath.Join(s.root, req.Address.Get("path"), p.Name)
		if err := s.write(req, p, folder); err != nil {
			return fmt.Errorf("part %q: %w", p.Name, err)
		}
		p.Commit(folder)
	}
	return nil
}

func (s *sink) write(req sdk.WriteRequest, p *sdk.IncomingPart, folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return failure(err)
	}
	if req.Address.Get("form") == formJournal {
		return writeJournal(p, folder)
	}
	return writeSegments(p, folder, s.work(req.Flow))
}

// work is where the sink keeps what is not whole.
func (s *sink) work(flow sdk.FlowContext) string { return filepath.Join(s.root, ".ledger", flow.ID) }

// Deprovision removes what is left of segments that were begun.
func (s *sink) Deprovision(_ context.Context, flow sdk.FlowContext, _ sdk.DataAddress) error {
	return failure(os.RemoveAll(s.work(flow)))
}

// failure is an error of the file system, all of which may pass.
func failure(err error) error {
	if err == nil || errors.As(err, new(*sdk.Error)) || errors.Is(err, sdk.ErrInterrupted) {
		return err
	}
	return sdk.Retryf(sdk.Exhausted, "%w", err)
}

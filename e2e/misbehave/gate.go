package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// gate is a sink that is as slow as a test wants: to find an address in order, and to hand one out. It waits for a file in the folder that
// MISBEHAVE_GATES names, called like the address's property "gate" or like the flow. The file is empty, or says what goes wrong.
type gate struct{ sink }

var (
	_ sdk.Validator   = gate{}
	_ sdk.Provisioner = gate{}
)

func gateType() sdk.SinkType {
	return sdk.SinkType{Sink: gate{}, AddressType: sdk.AddressType{
		Type: "Gate", Address: sdk.Schema{Fields: []sdk.Field{{Name: "gate", Documentation: "The file to wait for."}}}}}
}

func (gate) Validate(ctx context.Context, a sdk.DataAddress) error {
	if name := a.Get("gate"); name != "" {
		return pass(ctx, name)
	}
	return nil
}

func (gate) Provision(ctx context.Context, f sdk.FlowContext, _ sdk.DataAddress) (sdk.DataAddress, error) {
	if err := pass(ctx, f.ID); err != nil {
		return sdk.DataAddress{}, err
	}
	return sdk.DataAddress{Type: "Gate", Endpoint: "https://gate.example/" + f.ID,
		Properties: map[string]string{"authorization": "open-" + f.ID, "authType": "bearer"}}, nil
}

// pass waits until a gate is open.
func pass(ctx context.Context, name string) error {
	if name != filepath.Base(name) {
		return sdk.Errorf(sdk.Invalid, "a gate has to be the name of a file")
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(filepath.Join(os.Getenv("MISBEHAVE_GATES"), name))
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return sdk.Errorf(sdk.Internal, "read the gate: %w", err)
		case len(text) > 0:
			return sdk.Errorf(sdk.Denied, "%s", text)
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

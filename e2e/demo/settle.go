package main

import (
	"context"
	"path"
	"time"
)

// settle checks a flow that has moved the dataset, adds its rows to the table, and clears the consumer's files for the next.
func (d *demo) settle(ctx context.Context, id string, begun time.Time, paused time.Duration) error {
	sent, err := readTree(ctx, d.provider.host.files)
	if err != nil {
		return err
	}
	for _, p := range d.participants() {
		f, err := p.host.awaitEnd(ctx, id)
		if err != nil {
			return err
		}
		wrong := differences(sent, f.digests())
		if p == d.consumer {
			arrived, err := readTree(ctx, p.host.files)
			if err != nil {
				return err
			}
			wrong = append(wrong, differences(sent, arrived)...)
		}
		d.add(id, p.host.name, f, f.took(begun)-paused, wrong)
	}
	return clearFolder(d.consumer.host.files)
}

// add adds a row, and what is wrong with its flow.
func (d *demo) add(id, side string, f *flowStatus, took time.Duration, wrong []string) {
	if f.State != "COMPLETED" {
		wrong = append(wrong, "the flow is "+f.State)
	}
	verdict := "yes"
	if len(wrong) > 0 {
		verdict = "NO"
	}
	for _, text := range wrong {
		d.wrong = append(d.wrong, id+", "+side+": "+text)
	}
	d.rows = append(d.rows, row{flow: id, direction: f.Direction, role: f.Role, state: f.State, parts: f.Parts, bytes: f.Bytes,
		took: took, equal: verdict})
}

// addRefused adds the row of a flow that moved nothing.
func (d *demo) addRefused(ctx context.Context, id string) error {
	f, err := d.provider.host.awaitEnd(ctx, id)
	if err != nil {
		return err
	}
	d.rows = append(d.rows, row{flow: id, direction: f.Direction, role: f.Role, state: f.State, parts: f.Parts, bytes: f.Bytes, equal: "-"})
	return nil
}

// awaitEnd returns a flow once it has ended and nothing is left to clear away for it.
func (h *host) awaitEnd(ctx context.Context, id string) (f *flowStatus, err error) {
	err = poll(ctx, func() (bool, error) {
		f, err = h.flow(ctx, id)
		return err == nil && (f.State == "COMPLETED" || f.State == "TERMINATED") && !f.CleanupPending, err
	})
	return f, err
}

// digests returns what the host has recorded of the parts, by the names that they have in a folder.
func (f *flowStatus) digests() tree {
	t := tree{}
	for _, p := range f.PartList {
		t[path.Join(datasetID, p.Name)] = p.SHA256
	}
	return t
}

// took returns how long after begun the last part was durable.
func (f *flowStatus) took(begun time.Time) time.Duration {
	last := begun
	for _, p := range f.PartList {
		if p.Finished.After(last) {
			last = p.Finished
		}
	}
	return last.Sub(begun)
}

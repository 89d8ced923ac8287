package main

import (
	"context"
	"time"
)

// The profiles of the configurations.
const (
	pushProfile = "http-push"
	pullProfile = "http-pull"
)

// story is one thing that is shown.
type story struct {
	flow  string // its id
	title string
	run   func(ctx context.Context, flow string) error
}

func (d *demo) stories() []story {
	return []story{
		{"demo-push", "Push: the provider sends to the consumer's ingest", d.push},
		{"demo-pull", "Pull: the consumer fetches from the provider's public API", d.pull},
		{"demo-pause", "Suspend a push on its way over a slow line, see that all is still, resume it", d.pause},
		{"demo-refused", "Terminate a pull, and try its token again", d.refuse},
	}
}

// push sends the dataset.
func (d *demo) push(ctx context.Context, id string) error {
	to, err := d.consumer.plane.prepare(ctx, id, pushProfile)
	if err != nil {
		return err
	}
	begun := time.Now()
	err = d.during(func() (string, error) {
		if err := d.startPush(ctx, id, to); err != nil {
			return "", err
		}
		return "done", d.provider.plane.awaitCompleted(ctx, id)
	})
	if err != nil {
		return err
	}
	if err := d.consumer.plane.completed(ctx, id); err != nil {
		return err
	}
	return d.settle(ctx, id, begun, 0)
}

// startPush starts a push to the consumer's address.
func (d *demo) startPush(ctx context.Context, id string, to *dataAddress) error {
	if _, err := d.provider.plane.start(ctx, id, pushProfile, to); err != nil {
		return err
	}
	return d.consumer.plane.started(ctx, id, nil)
}

// pull fetches the dataset.
func (d *demo) pull(ctx context.Context, id string) error {
	if _, err := d.consumer.plane.prepare(ctx, id, pullProfile); err != nil {
		return err
	}
	from, err := d.provider.plane.start(ctx, id, pullProfile, nil)
	if err != nil {
		return err
	}
	begun := time.Now()
	err = d.during(func() (string, error) {
		if err := d.consumer.plane.started(ctx, id, from); err != nil {
			return "", err
		}
		return "done", d.consumer.plane.awaitCompleted(ctx, id)
	})
	if err != nil {
		return err
	}
	if err := d.provider.plane.completed(ctx, id); err != nil {
		return err
	}
	return d.settle(ctx, id, begun, 0)
}

// during shows how much has arrived at the consumer while work is done. work returns what to say of its end.
func (d *demo) during(work func() (string, error)) error {
	return d.console.during(d.dataset.size, d.consumer.host.landed, work)
}

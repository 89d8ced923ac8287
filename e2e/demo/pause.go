package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pause sends the dataset and suspends that on the way. A slow line to the consumer makes sure that there is a middle.
func (d *demo) pause(ctx context.Context, id string) error {
	to, err := d.consumer.plane.prepare(ctx, id, pushProfile)
	if err != nil {
		return err
	}
	line, err := newRelay(d.consumer.host.public, float64(d.dataset.size)/slowLine.Seconds())
	if err != nil {
		return err
	}
	defer line.close()
	begun := time.Now()
	err = d.during(func() (string, error) {
		if err := d.startPush(ctx, id, line.through(to)); err != nil {
			return "", err
		}
		return "suspended", d.suspendOnTheWay(ctx, id)
	})
	if err != nil {
		return err
	}
	suspended := time.Now()
	if err := d.seeStill(ctx, id); err != nil {
		return err
	}
	paused := time.Since(suspended)
	if err := d.during(func() (string, error) { return "done", d.resumePush(ctx, id) }); err != nil {
		return err
	}
	if err := d.consumer.plane.completed(ctx, id); err != nil {
		return err
	}
	return d.settle(ctx, id, begun, paused)
}

// slowLine is how long the dataset would take over the slow line.
const slowLine = 5 * time.Second

// suspendOnTheWay suspends a push when two fifths have arrived: in the middle of the largest file.
func (d *demo) suspendOnTheWay(ctx context.Context, id string) error {
	err := poll(ctx, func() (bool, error) {
		if completed, err := d.provider.plane.outcome(id); err != nil {
			return false, err
		} else if completed {
			return false, errors.New("it was completed before it could be suspended")
		}
		landed, err := d.consumer.host.landed()
		return landed >= d.dataset.size*2/5, err
	})
	if err != nil {
		return err
	}
	if err := d.provider.plane.suspend(ctx, id); err != nil {
		return err
	}
	return d.consumer.plane.suspend(ctx, id)
}

// resumePush resumes at both sides and returns when everything is sent. The consumer has a new address, with a new token.
func (d *demo) resumePush(ctx context.Context, id string) error {
	to, err := d.consumer.plane.resume(ctx, id, nil)
	if err != nil {
		return err
	}
	if _, err := d.provider.plane.resume(ctx, id, to); err != nil {
		return err
	}
	return d.provider.plane.awaitCompleted(ctx, id)
}

// reading is what can be seen to move.
type reading struct {
	landed             int64
	provider, consumer progress
}

type progress struct {
	state        string
	parts, bytes int64
}

// seeStill looks several times whether anything moves in a flow that is suspended.
func (d *demo) seeStill(ctx context.Context, id string) error {
	const times, between = 5, 500 * time.Millisecond
	first, err := d.read(ctx, id)
	if err != nil {
		return err
	}
	for range times - 1 {
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if now, err := d.read(ctx, id); err != nil {
			return err
		} else if now != first {
			return fmt.Errorf("suspended, and yet something moves: %+v, then %+v", first, now)
		}
	}
	d.console.print("   %d looks in %v: all is still. %d of %d parts are durable, %s; what was cut goes on", times, (times-1)*between,
		first.consumer.parts, len(d.dataset.files), mebibytes(first.consumer.bytes))
	return nil
}

func (d *demo) read(ctx context.Context, id string) (r reading, err error) {
	if r.provider, err = d.provider.host.progress(ctx, id); err != nil {
		return r, err
	}
	if r.consumer, err = d.consumer.host.progress(ctx, id); err != nil {
		return r, err
	}
	r.landed, err = d.consumer.host.landed()
	return r, err
}

func (h *host) progress(ctx context.Context, id string) (progress, error) {
	f, err := h.flow(ctx, id)
	if err != nil {
		return progress{}, err
	}
	return progress{f.State, f.Parts, f.Bytes}, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// demo is everything that takes part.
type demo struct {
	console  *console
	dataset  *dataset
	provider *participant
	consumer *participant
	watchers sync.WaitGroup // see that hosts do not end

	rows  []row
	wrong []string // what differs, for people
}

// participant is one side: a host and the control plane that it works for.
type participant struct {
	host  *host
	plane *controlPlane
}

// play starts both sides and runs the stories. What was started is stopped by stop, also after an error.
func (d *demo) play(ctx context.Context, o options, w *workspace) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := d.start(ctx, cancel, o, w)
	if err == nil {
		err = d.tell(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // what failed is only a consequence
	}
	return err
}

// start starts both sides and returns when they are ready.
func (d *demo) start(ctx context.Context, cancel context.CancelCauseFunc, o options, w *workspace) error {
	hosts, err := newHosts(w, provider, consumer)
	if err != nil {
		return err
	}
	d.provider, d.consumer = &participant{host: hosts[0]}, &participant{host: hosts[1]}
	for _, p := range d.participants() {
		if err := p.start(o, w, d.other(p).host.name); err != nil {
			return err
		}
		d.watch(p.host, cancel)
	}
	for _, p := range d.participants() {
		if err := p.host.awaitReady(ctx); err != nil {
			return err
		}
	}
	return writeHosts(d.console.out, hosts)
}

func (d *demo) participants() []*participant { return []*participant{d.provider, d.consumer} }

func (d *demo) other(p *participant) *participant {
	if p == d.provider {
		return d.consumer
	}
	return d.provider
}

func (p *participant) start(o options, w *workspace, counterParty string) (err error) {
	if p.plane, err = newControlPlane(p.host.name, counterParty, p.host.signaling); err != nil {
		return err
	}
	return p.host.start(o, w, p.plane.url)
}

// watch cancels everything if the host ends.
func (d *demo) watch(h *host, cancel context.CancelCauseFunc) {
	d.watchers.Go(func() {
		<-h.process.ended
		cancel(fmt.Errorf("the %s host has ended", h.name))
	})
}

// stop ends what start has started, and waits until it has.
func (d *demo) stop() error {
	http.DefaultClient.CloseIdleConnections() // a server waits for those that were never used
	var stopping sync.WaitGroup
	errs := make([]error, 2)
	for i, p := range d.participants() {
		if p != nil {
			stopping.Go(func() { errs[i] = p.stop() })
		}
	}
	stopping.Wait()
	d.watchers.Wait()
	return errors.Join(errs...)
}

func (p *participant) stop() error {
	err := p.host.stop()
	if p.plane != nil {
		err = errors.Join(err, p.plane.close())
	}
	return err
}

// tell runs the stories one after the other.
func (d *demo) tell(ctx context.Context) error {
	for i, s := range d.stories() {
		d.console.print("\n%d  %s", i+1, s.title)
		if err := d.tellOne(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.flow, err)
		}
	}
	return nil
}

func (d *demo) tellOne(ctx context.Context, s story) error {
	patience := 2*time.Minute + time.Duration(d.dataset.size>>22)*time.Second // slower than 4 MiB/s is broken
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no end within %v", patience))
	defer cancel()
	err := s.run(ctx, s.flow)
	if err == nil {
		return nil
	}
	return errors.Join(append([]error{err}, d.complaints(ctx, s.flow)...)...)
}

// complaints returns what the hosts say is wrong with a flow.
func (d *demo) complaints(ctx context.Context, id string) []error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var list []error
	for _, p := range d.participants() {
		f, err := p.host.flow(ctx, id)
		if err != nil {
			continue // there is none, or the first error says more
		}
		for _, text := range []string{f.Fault, f.Waiting} {
			if text != "" {
				list = append(list, fmt.Errorf("the %s host says: %s", p.host.name, text))
			}
		}
	}
	return list
}

// conclude shows what was moved. The error says what differs.
func (d *demo) conclude(w *workspace, took time.Duration) error {
	if len(d.rows) > 0 {
		d.console.print("")
		if err := writeTable(d.console.out, d.rows); err != nil {
			return err
		}
		d.console.print("\nSECONDS run from the signal that starts the bytes to the last part that is durable, without pauses.")
	}
	d.console.print("Took %.1f s. Logs of the hosts: %s, %s", took.Seconds(), shorten(w.log(provider)), shorten(w.log(consumer)))
	if len(d.wrong) > 0 {
		return fmt.Errorf("not everything is equal:\n  %s", strings.Join(d.wrong, "\n  "))
	}
	return nil
}

//go:build linux

package e2e_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dataspace is a provider, a consumer, and their control planes, both played by the test. The provider has files to offer.
type dataspace struct {
	t        testing.TB
	provider *host
	consumer *host
	files    tree // the provider's dataset "tree"
}

// newDataspace starts both hosts. Files make up about size bytes; seed makes them differ.
func newDataspace(t testing.TB, seed uint64, size int64) *dataspace {
	t.Helper()
	d := &dataspace{t: t, provider: newHost(t, "provider", ""), consumer: newHost(t, "consumer", "")}
	d.files = makeTree(t, d.provider.outbox(), seed, size)
	for _, h := range []*host{d.provider, d.consumer} {
		h.launch()
	}
	for _, h := range []*host{d.provider, d.consumer} {
		h.awaitReady()
	}
	return d
}

// transfer is one data flow as its two sides know it: each control plane has chosen an id.
type transfer struct {
	provider, consumer string
}

func newTransfer(name string) transfer {
	return transfer{provider: name + "-at-provider", consumer: name + "-at-consumer"}
}

// startPush has both sides agree on a push, which begins.
func (d *dataspace) startPush(name string) transfer {
	d.t.Helper()
	f := newTransfer(name)
	prepared := d.consumer.signal("prepare", creation(f.consumer, "http-push", "tree", nil))
	d.expectAnswer(prepared, "PREPARED", true)
	started := d.provider.signal("start", creation(f.provider, "http-push", "tree", prepared.DataAddress))
	d.expectAnswer(started, "STARTED", false)
	d.expectAnswer(d.consumer.signal(f.consumer+"/started", nil), "STARTED", false)
	return f
}

// startPull has both sides agree on a pull, which begins.
func (d *dataspace) startPull(name string) transfer {
	d.t.Helper()
	f := newTransfer(name)
	d.expectAnswer(d.consumer.signal("prepare", creation(f.consumer, "http-pull", "tree", nil)), "PREPARED", false)
	started := d.provider.signal("start", creation(f.provider, "http-pull", "tree", nil))
	d.expectAnswer(started, "STARTED", true)
	m := message{"messageId": newID(), "dataAddress": started.DataAddress}
	d.expectAnswer(d.consumer.signal(f.consumer+"/started", m), "STARTED", false)
	return f
}

func (d *dataspace) expectAnswer(a answer, state string, address bool) {
	d.t.Helper()
	if a.State != state || (a.DataAddress != nil) != address {
		d.t.Fatalf("the answer should be %s and have an address: %t: %s", state, address, a.text)
	}
}

// finishPush waits for the provider's word that everything is delivered, passes it on, and checks what has become of the flow.
func (d *dataspace) finishPush(f transfer) {
	d.t.Helper()
	d.provider.controlPlane.expect(d.t, f.provider, "completed")
	d.consumer.signal(f.consumer+"/completed", message{})
	d.expectDelivered(f)
}

// finishPull waits for the consumer's word that it has everything, passes it on, and checks what has become of the flow.
func (d *dataspace) finishPull(f transfer) {
	d.t.Helper()
	d.consumer.controlPlane.expect(d.t, f.consumer, "completed")
	d.provider.signal(f.provider+"/completed", message{})
	d.expectDelivered(f)
}

// expectDelivered checks that both sides are done and agree, and that nothing but the files is left.
func (d *dataspace) expectDelivered(f transfer) {
	d.t.Helper()
	d.provider.expectState(f.provider, "COMPLETED")
	d.consumer.expectState(f.consumer, "COMPLETED")
	expectTree(d.t, d.consumer.inbox(), d.files)
	d.provider.expectNothingLeft(f.provider)
	d.consumer.expectNothingLeft(f.consumer)
	d.expectParts(d.consumer, f.consumer)
}

// expectParts checks that a host has recorded exactly the files, with their digests.
func (d *dataspace) expectParts(h *host, id string) {
	d.t.Helper()
	recorded := tree{}
	for _, p := range h.flow(id).PartList {
		recorded[p.Name] = p.SHA256
	}
	if diff := cmp.Diff(d.files, recorded); diff != "" {
		d.t.Errorf("parts of %s at the %s (-files +recorded):\n%s", id, h.name, diff)
	}
}

// expectSameDigest checks that both sides sum up the same parts.
func (d *dataspace) expectSameDigest(f transfer) {
	d.t.Helper()
	p, c := d.provider.flow(f.provider), d.consumer.flow(f.consumer)
	if p.Digest == "" || p.Digest != c.Digest || p.Bytes != c.Bytes || p.Parts != c.Parts {
		d.t.Errorf("the provider has %d parts, %d bytes, digest %q, the consumer %d, %d, %q",
			p.Parts, p.Bytes, p.Digest, c.Parts, c.Bytes, c.Digest)
	}
}

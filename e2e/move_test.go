//go:build linux

package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

const mib = 1 << 20

// The provider sends its files to the address that the consumer has issued.
func TestPush(t *testing.T) {
	t.Parallel()
	d := newDataspace(t, 1, 4*mib)
	finish := guard(t, d.consumer.inbox(), d.files)
	f := d.startPush("push")
	d.finishPush(f)
	finish()
	d.expectParts(d.provider, f.provider)
	d.expectSameDigest(f)
	d.consumer.controlPlane.expect(t, f.consumer) // its control plane knows already
}

// The consumer fetches the provider's files from the address that the provider has issued.
func TestPull(t *testing.T) {
	t.Parallel()
	d := newDataspace(t, 2, 4*mib)
	finish := guard(t, d.consumer.inbox(), d.files)
	f := d.startPull("pull")
	d.finishPull(f)
	finish()
	d.expectParts(d.provider, f.provider)
	d.expectSameDigest(f)
	d.provider.controlPlane.expect(t, f.provider)
}

// A push is suspended in mid-transfer and stands still, is resumed and finishes.
func TestSuspendAndResumePush(t *testing.T) {
	t.Parallel()
	d := newDataspace(t, 3, 16*mib)
	guard(t, d.consumer.inbox(), d.files)
	d.consumer.network.rate.Store(8 * mib)
	f := d.startPush("push")
	d.consumer.network.awaitPassed(t, 4*mib)

	d.expectAnswer(d.provider.signal(f.provider+"/suspend", message{"messageId": newID(), "reason": "maintenance"}), "SUSPENDED", false)
	d.expectAnswer(d.consumer.signal(f.consumer+"/suspend", nil), "SUSPENDED", false)
	if got := d.provider.flow(f.provider).Reason; got != "maintenance" {
		t.Errorf("the reason of the suspend is %q", got)
	}
	d.expectStill()

	resumed := d.consumer.signal(f.consumer+"/resume", nil)
	d.expectAnswer(resumed, "STARTED", true)
	d.expectAnswer(d.provider.signal(f.provider+"/resume", message{"messageId": newID(), "dataAddress": resumed.DataAddress}), "STARTED", false)
	d.finishPush(f)
	d.expectSameDigest(f)
}

// A pull is suspended at the provider, which cuts the consumer's requests. Its token is dead until the resume makes a new one.
func TestSuspendAndResumePull(t *testing.T) {
	t.Parallel()
	d := newDataspace(t, 4, 16*mib)
	guard(t, d.consumer.inbox(), d.files)
	d.provider.network.rate.Store(8 * mib)
	f := newTransfer("pull")
	d.consumer.signal("prepare", creation(f.consumer, "http-pull", "tree", nil))
	started := d.provider.signal("start", creation(f.provider, "http-pull", "tree", nil))
	d.consumer.signal(f.consumer+"/started", message{"messageId": newID(), "dataAddress": started.DataAddress})
	d.provider.network.awaitPassed(t, 4*mib)

	d.consumer.signal(f.consumer+"/suspend", nil)
	d.provider.signal(f.provider+"/suspend", nil)
	d.expectStill()
	if code, body, err := fetch(started.DataAddress.Endpoint, started.DataAddress.token()); err != nil || code != http.StatusForbidden {
		t.Errorf("a request with the token of a suspended flow: %d %s %v, not 403", code, body, err)
	}

	resumed := d.provider.signal(f.provider+"/resume", nil)
	d.expectAnswer(resumed, "STARTED", true)
	if code, body, _ := fetch(started.DataAddress.Endpoint, started.DataAddress.token()); code != http.StatusForbidden {
		t.Errorf("a request with the token from before the suspend: %d %s, not 403", code, body)
	}
	d.consumer.signal(f.consumer+"/resume", message{"messageId": newID(), "dataAddress": resumed.DataAddress})
	d.finishPull(f)
}

// expectStill checks that no byte moves. That nothing happens can only be seen over some time.
func (d *dataspace) expectStill() {
	d.t.Helper()
	passed := func() int64 { return d.provider.network.passed.Load() + d.consumer.network.passed.Load() }
	// What was on its way when the signal was answered lands in the network and is discarded there.
	eventually(d.t, "bytes on their way have landed", func() bool {
		before := passed()
		time.Sleep(200 * time.Millisecond)
		return passed() == before
	})
	before := passed()
	files := readTree(d.t, d.consumer.inbox())
	time.Sleep(700 * time.Millisecond)
	if after := passed(); after != before {
		d.t.Errorf("%d bytes moved while the flow was suspended", after-before)
	}
	expectTree(d.t, d.consumer.inbox(), files)
}

// A flow that is terminated in mid-transfer takes nothing any more and leaves nothing unfinished.
func TestTerminate(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"push", "pull"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			d := newDataspace(t, 5, 16*mib)
			guard(t, d.consumer.inbox(), d.files)
			d.consumer.network.rate.Store(8 * mib)
			d.provider.network.rate.Store(8 * mib)
			f, via := d.start(direction)
			via.awaitPassed(t, 4*mib)

			d.provider.signal(f.provider+"/terminate", nil)
			d.consumer.signal(f.consumer+"/terminate", nil)
			d.provider.expectState(f.provider, "TERMINATED")
			d.consumer.expectState(f.consumer, "TERMINATED")
			d.expectStill()
			d.provider.expectNothingLeft(f.provider)
			d.consumer.expectNothingLeft(f.consumer)
			d.provider.controlPlane.expect(t, f.provider)
			d.consumer.controlPlane.expect(t, f.consumer)

			for _, signal := range []string{"started", "suspend", "resume", "completed"} {
				if a, err := d.consumer.try(f.consumer+"/"+signal, nil); err != nil || a.code != http.StatusConflict {
					t.Errorf("%s of a terminated flow: %d %s %v, not 409", signal, a.code, a.text, err)
				}
			}
		})
	}
}

// start begins a push or a pull, and returns the network that its bytes pass.
func (d *dataspace) start(direction string) (transfer, *network) {
	d.t.Helper()
	if direction == "push" {
		return d.startPush("push"), d.consumer.network
	}
	return d.startPull("pull"), d.provider.network
}

func (d *dataspace) finish(direction string, f transfer) {
	d.t.Helper()
	if direction == "push" {
		d.finishPush(f)
		return
	}
	d.finishPull(f)
}

// An operator looks at the flows of a host.
func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	d := newDataspace(t, 6, mib)
	f := d.startPush("push")
	d.finishPush(f)
	h := d.consumer

	expectOutput := func(want []string, args ...string) string {
		t.Helper()
		code, stdout, stderr := towpath(t, h.env, args...)
		if code != 0 || stderr != "" {
			t.Errorf("towpath %s: exit code %d, stderr %q", strings.Join(args, " "), code, stderr)
		}
		for _, w := range want {
			if !strings.Contains(stdout, w) {
				t.Errorf("towpath %s does not show %q:\n%s", strings.Join(args, " "), w, stdout)
			}
		}
		return stdout
	}
	expectOutput([]string{"FLOW", f.consumer, "consumer", "push", "COMPLETED", "tree"}, "flows", "list", "-admin", h.admin)
	expectOutput([]string{f.consumer}, "flows", "list", "-config", h.config, "-state", "completed")
	shown := expectOutput([]string{f.consumer, "COMPLETED", "http-push", "b/d/e f & ü%41.bin", d.files["a.bin"][:16]}, "flows", "show", f.consumer, "-config", h.config)
	shown += expectOutput(nil, "flows", "show", f.consumer, "-admin", h.admin, "-json")

	var list struct{ Flows []flowDetail }
	if err := json.Unmarshal([]byte(expectOutput(nil, "flows", "list", "-admin", h.admin, "-json")), &list); err != nil || len(list.Flows) != 1 {
		t.Errorf("flows as JSON: %v %v", list, err)
	}
	expectOutput([]string{"file", "http", "kafka", "s3", "synthetic", "HttpData", "AmazonS3", "Generate", "Discard"}, "plugins", "list", "-config", h.config)
	expectOutput([]string{"root", "collision"}, "plugins", "describe", "file", "-config", h.config)
	expectOutput([]string{`"root"`}, "plugins", "describe", "file", "-config", h.config, "-json")
	expectOutput([]string{"towpath"}, "version")

	// The provider was given a token. It is not for operators.
	shown += expectOutput(nil, "flows", "show", f.provider, "-admin", d.provider.admin, "-json")
	if strings.Contains(shown, "eyJ") {
		t.Errorf("an access token is shown:\n%s", shown)
	}

	for _, c := range []struct {
		code int
		args []string
	}{
		{4, []string{"flows", "show", "nobody", "-admin", h.admin}},
		{4, []string{"plugins", "describe", "nobody", "-config", h.config}},
		{2, []string{"flows", "list", "-state", "LOST", "-admin", h.admin}},
		{1, []string{"flows", "list", "-admin", "http://" + freeAddress(t)}},
		{2, []string{"flows", "show", "-admin", h.admin}},
		{2, []string{"flow"}},
		{2, nil},
	} {
		code, stdout, stderr := towpath(t, h.env, c.args...)
		if code != c.code || stdout != "" || stderr == "" {
			t.Errorf("towpath %s: exit code %d, not %d; stdout %q, stderr %q", strings.Join(c.args, " "), code, c.code, stdout, stderr)
		}
	}
}

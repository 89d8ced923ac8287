package publicapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// giveUpTime bounds how long a sink may take to let go of a part.
const giveUpTime = 10 * time.Second

// giveUp ends an upload that nobody goes on with. What the sink cannot let go of now it lets go of with the flow.
func (h *Handler) giveUp(ctx context.Context, f *flow.Flow, u *resumable) error {
	if err := h.discard(ctx, f, u); err != nil {
		h.Logger.WarnContext(ctx, "the sink keeps what has come of an upload until the data flow ends", "flow", u.Key.String(), "part", u.Name, "err", err)
	}
	return h.Resume.Uploads.DeleteUpload(ctx, u.Upload)
}

// discard has the sink remove what it keeps of an upload: it goes on with the part, and gives it up.
func (h *Handler) discard(ctx context.Context, f *flow.Flow, u *resumable) error {
	if u.Token == nil {
		return nil // nothing is durable, or all of it is the part
	}
	sink, err := h.Sink(f.Local.Type)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, giveUpTime)
	defer cancel()
	stream, err := sink.Write(ctx, sdk.WriteOpen{Flow: f.PluginContext(), Address: f.Local, ResumeToken: u.Token, Redelivery: true,
		Digests: h.algorithms})
	if err != nil {
		return err
	}
	// How the stream ends is all that counts.
	defer stream.Close()
	for _, frame := range []sdk.Frame{&sdk.PartBegin{PartInfo: u.part(), Offset: u.Offset}, &sdk.End{}} {
		if err := stream.Send(frame); err != nil && err != io.EOF {
			return err
		}
	}
	var e *sdk.Error
	err = awaitDone(stream, func(*sdk.Durable) error { return nil }).err
	switch {
	case err == nil:
		return sdk.Errorf(sdk.Internal, "the sink takes a part that was given up for whole")
	case errors.As(err, &e) && !e.Retryable:
		return nil // it has nothing that can go on
	}
	return err
}

// Expire gives up the uploads whose time is over. Those to flows that are SUSPENDED stay until these go on. The owner calls it now and
// then.
func (h *Handler) Expire(ctx context.Context) error {
	if h.Resume.Uploads == nil {
		return nil
	}
	expired, err := h.Resume.Uploads.Expired(ctx, time.Now())
	if err != nil {
		return err
	}
	var failures []error
	for _, u := range expired {
		if err := h.expire(ctx, u); err != nil {
			failures = append(failures, fmt.Errorf("upload of %q to flow %s: %w", u.Name, u.Key, err))
		}
	}
	return errors.Join(failures...)
}

func (h *Handler) expire(ctx context.Context, listed flow.Upload) error {
	at := route{operation: uploadPart, key: listed.Key}
	leave, err := h.uploads.enter(at)
	if err != nil {
		return nil // a manifest is being looked at
	}
	defer leave()
	// Who asks for it meanwhile waits.
	release, err := h.uploads.claim(ctx, at, listed.Name, func() {}, false)
	if err != nil {
		return nil // a request has it in hand, which may make it go on for longer
	}
	defer release()
	found, ok, err := h.Resume.Uploads.Upload(ctx, listed.Key, listed.Name)
	if err != nil || !ok || found.ID != listed.ID || time.Now().Before(found.Expires) {
		return err
	}
	joined, err := h.Flows.Join(ctx, listed.Key)
	var state *flow.StateError
	if errors.As(err, &state) && !state.State.Final() {
		return nil
	}
	if errors.As(err, &state) || errors.Is(err, flow.ErrNotFound) {
		return h.Resume.Uploads.DeleteUpload(ctx, found)
	}
	if err != nil {
		return err
	}
	defer joined.Leave()
	u := &resumable{Upload: found}
	if err := json.Unmarshal(found.Content, &u.uploadState); err != nil {
		return err
	}
	return h.giveUp(joined.Context, joined.Flow, u)
}

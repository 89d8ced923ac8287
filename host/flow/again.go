package flow

import (
	"context"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Again starts a flow that is there, in protocols that have no resume and no id for a message. One that is STARTED goes on; where this
// side serves its data, it gets a new address, and the former token is dead. One that is SUSPENDED is resumed, with address for the
// counterparty's if that is not nil. One that is PREPARING, PREPARED or STARTING is answered as it was.
func (e *Engine) Again(ctx context.Context, m Message, address *sdk.DataAddress) (Status, error) {
	l, unlock, err := e.enter(ctx, m.Key)
	if err != nil {
		return Status{}, err
	}
	defer unlock()
	f, answered, err := e.examine(ctx, SignalAgain, m, nil)
	if f == nil {
		return answer(answered, err)
	}
	return e.again(ctx, l, f, Create{Message: m, DataAddress: address})
}

// again starts a flow that is STARTED or SUSPENDED. The flow's lock is held.
func (e *Engine) again(ctx context.Context, l *live, f *Flow, c Create) (Status, error) {
	if f.State == Started && !f.Serves() {
		return e.leave(ctx, l, f, c)
	}
	return e.move(ctx, l, f, SignalAgain, c.Message, func(f *Flow) error { return e.reissue(ctx, f, c.DataAddress) },
		func(tx Tx, f *Flow) error {
			if c.Callback != "" {
				f.Callback = c.Callback
			}
			return resumed(tx, f)
		})
}

// leave lets a STARTED flow go on that has no token of ours to replace. Its transfer is tried again if it rests with a fault.
func (e *Engine) leave(ctx context.Context, l *live, f *Flow, c Create) (Status, error) {
	rests := f.retryable() && f.Fault != "" && l.transfer == nil
	if !rests && (c.Callback == "" || c.Callback == f.Callback) {
		return f.status(f.Issued), nil
	}
	err := e.edit(ctx, f.Key, func(_ Tx, now *Flow) error {
		if c.Callback != "" {
			now.Callback = c.Callback
		}
		if rests {
			now.recovered()
		}
		f = now
		return nil
	})
	if err == nil && rests {
		e.restart(l, f)
	}
	return f.status(f.Issued), err
}

// startedBy says what is wrong with a message that is to start the flow again: it has to be the one that created it, as far as that says
// what the flow is about.
func (f *Flow) startedBy(c *Create) error {
	for _, same := range []struct{ field, is, was string }{
		{"profile", c.Profile, f.Profile},
		{"datasetId", c.DatasetID, f.DatasetID},
		{"agreementId", c.AgreementID, f.AgreementID},
	} {
		if same.is != same.was {
			return &RequestError{Field: same.field, Message: "is not what the data flow was created with"}
		}
	}
	return nil
}

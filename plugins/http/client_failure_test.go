package main

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

// A peer that says 100 Continue too late and then resets the connection makes the transport report a failure of its own.
func TestFailureOfAPeerOutOfTurn(t *testing.T) {
	odd := &url.Error{Op: "Post", URL: "http://x/", Err: errors.New("readLoopPeekFailLocked: %!w(<nil>)")}
	err := failure(t.Context(), "POST http://x/", odd)
	if e := sdk.AsError(err); e.Code != sdk.Unavailable || !e.Retryable || !strings.HasSuffix(e.Message, errHungUp.Error()) {
		t.Errorf("got %+v", e)
	}
}

package main

import (
	"context"
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// partsSource yields what it is.
type partsSource []sdk.Part

func (s partsSource) Read(context.Context, sdk.ReadRequest) iter.Seq2[sdk.Part, error] {
	return func(yield func(sdk.Part, error) bool) {
		for _, p := range s {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func TestSinkSuite(t *testing.T) {
	sdktest.TestSink(t, sdktest.SinkCase{New: func(t *testing.T) sdktest.Store {
		p := newPost(t, &post{}, nil)
		return sdktest.Store{
			Sink:    newSink(t, p.config(nil)),
			Address: address(),
			Names: func() ([]string, error) {
				all, err := p.attachments()
				return slices.Collect(maps.Keys(all)), err
			},
			Content: func(name string) ([]byte, error) {
				all, err := p.attachments()
				return all[name], err
			},
		}
	}})
}

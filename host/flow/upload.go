package flow

import (
	"context"
	"time"
)

// Upload is a part of an ingest that may come in several requests: what is durable of it, and how it goes on. A flow has at most one
// for each name.
type Upload struct {
	Key  Key
	Name string // of the part
	// ID tells the upload from others of that name, before and after.
	ID string
	// Content is for whoever stores it. Secret.
	Content []byte
	// Expires is when it is over. It stays until it is deleted.
	Expires time.Time
}

// Uploads keeps uploads. The store implements it, and forgets those of a flow with the flow's end. All methods may be called
// concurrently.
type Uploads interface {
	// PutUpload creates an upload, or replaces the one of that name. It is durable when PutUpload returns. The error is ErrNotFound if
	// there is no such flow, or none that goes on.
	PutUpload(ctx context.Context, u Upload) error
	// Upload returns the upload of that name, and whether there is one.
	Upload(ctx context.Context, key Key, name string) (Upload, bool, error)
	// Expired lists the uploads whose time was over at now, without their content, the oldest first.
	Expired(ctx context.Context, now time.Time) ([]Upload, error)
	// DeleteUpload removes an upload, unless another one has taken its place. It is idempotent.
	DeleteUpload(ctx context.Context, u Upload) error
}

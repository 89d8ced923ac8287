package sdk

import "context"

// Server is a DataSource of this process that can do without a stream of its own: whoever reads takes each frame as it comes.
type Server interface {
	// Serve reads as Read does, and calls emit with each frame, in the order of ReadStream.Recv. It returns when End was emitted, with
	// the failure of the source, with that of emit, or with the cause of ctx. A frame belongs to emit, also if it fails. Nothing can be
	// acknowledged or asked for meanwhile: it is for a ReadOpen that says Once.
	Serve(ctx context.Context, open ReadOpen, emit func(Frame) error) error
}

var _ Server = dataSource{}

func (d dataSource) Serve(ctx context.Context, open ReadOpen, emit func(Frame) error) error {
	if err := d.Validate(ctx, open.Address); err != nil {
		return err
	}
	place, err := parseReadToken(open.ResumeToken)
	if err != nil {
		return err
	}
	s := &readStream{ctx: ctx, source: d.Source, open: open, place: place, emit: emit}
	defer s.told.close()
	switch err := s.sendAll(); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return err
	}
}

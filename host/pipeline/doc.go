// Package pipeline copies the parts of one flow from a source to a sink: with backpressure from end to end, with digests compared
// where the bytes leave, and with checkpoints that are stored before either side may forget what lies before them.
//
// It knows streams of frames and nothing of flows, plugins, stores or signals. Run is one attempt; Transfer goes on after failures
// that can pass.
package pipeline

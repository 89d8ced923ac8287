package signaling

import (
	"encoding/json"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// datasetMember is the member of a message's metadata that describes its dataset.
const datasetMember = "towpathDataset"

// DatasetIn reads the dataset that the metadata of a message describes: the member towpathDataset, an object with the data addresses
// source, sink or both, and response for what comes back on a response channel. It returns false if there is none. The error is a *flow.RequestError.
func DatasetIn(metadata json.RawMessage) (d flow.Dataset, ok bool, err error) {
	if len(metadata) == 0 {
		return d, false, nil
	}
	all, err := parseFields("metadata", metadata)
	if err != nil || !all.has(datasetMember) {
		return d, false, err
	}
	f, err := parseFields(all.at(datasetMember), all.members[datasetMember])
	if err != nil {
		return d, false, err
	}
	if a := f.address("source"); a != nil {
		d.Source = *a
	}
	if a := f.address("sink"); a != nil {
		d.Sink = *a
	}
	if a := f.address("response"); a != nil {
		d.Response = *a
	}
	if f.err == nil && d.Source.IsZero() && d.Sink.IsZero() {
		f.fail("source", "is required, or sink")
	}
	return d, f.err == nil, f.err
}

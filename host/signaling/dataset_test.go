package signaling

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

func TestDatasetIn(t *testing.T) {
	file := sdk.DataAddress{Type: "File", Properties: map[string]string{"path": "a"}}
	for _, tt := range []struct {
		metadata string
		want     flow.Dataset
		field    string // at fault
	}{
		{metadata: ``},
		{metadata: `{}`},
		{metadata: `{"towpathDataset":null,"dataset":{"source":5}}`},
		{metadata: `{"towpathDataset":{"source":{"endpointType":"File","endpointProperties":[{"name":"path","value":"a"}]},"x":1}}`,
			want: flow.Dataset{Source: file}},
		{metadata: `{"towpathDataset":{"sink":{"endpointType":"File","endpointProperties":[{"name":"path","value":"a"}]},
			"source":{"endpointType":"HttpData","endpoint":"https://x"}}}`,
			want: flow.Dataset{Sink: file, Source: sdk.DataAddress{Type: "HttpData", Endpoint: "https://x"}}},
		{metadata: `{"towpathDataset":{"source":{"endpointType":"HttpData","endpoint":"https://x"},
			"response":{"endpointType":"File","endpointProperties":[{"name":"path","value":"a"}]}}}`,
			want: flow.Dataset{Response: file, Source: sdk.DataAddress{Type: "HttpData", Endpoint: "https://x"}}},
		{metadata: `{"towpathDataset":{}}`, field: "metadata.towpathDataset.source"},
		{metadata: `{"towpathDataset":[]}`, field: "metadata.towpathDataset"},
		{metadata: `{"towpathDataset":{"sink":{"endpoint":"https://x"}}}`, field: "metadata.towpathDataset.sink.endpointType"},
	} {
		got, ok, err := DatasetIn([]byte(tt.metadata))
		var refused *flow.RequestError
		if errors.As(err, &refused) != (tt.field != "") || tt.field != "" && !strings.HasPrefix(refused.Field, tt.field) {
			t.Errorf("%s: error %v", tt.metadata, err)
		}
		if diff := cmp.Diff(tt.want, got); tt.field == "" && diff != "" || ok != (diff == "" && tt.field == "" && !cmp.Equal(got, flow.Dataset{})) {
			t.Errorf("%s: %t %s", tt.metadata, ok, diff)
		}
	}
}

func FuzzDatasetIn(f *testing.F) {
	f.Add([]byte(`{"towpathDataset":{"source":{"endpointType":"File","endpointProperties":[{"name":"path","value":"a"}]}}}`))
	f.Add([]byte(`{"towpathDataset":{"sink":{"endpointType":"x","endpoint":"y","endpointProperties":null}}}`))
	f.Fuzz(func(t *testing.T, metadata []byte) {
		d, ok, err := DatasetIn(metadata)
		if ok && (err != nil || d.Source.IsZero() && d.Sink.IsZero()) {
			t.Errorf("%+v, %v", d, err)
		}
		if err != nil && !errors.As(err, new(*flow.RequestError)) {
			t.Errorf("not the fault of the message: %v", err)
		}
	})
}

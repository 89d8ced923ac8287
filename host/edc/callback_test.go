package edc

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

const endpoint = "http://cp:9191/api/control"

func TestCallbacks(t *testing.T) {
	ingest := &sdk.DataAddress{Type: "HttpData", Endpoint: "https://dp/in", Properties: map[string]string{"authorization": "t"}}
	queue := &sdk.DataAddress{Type: "AmazonS3", Properties: map[string]string{"bucketName": "b", "header:Accept": "text/csv", "https://x.example/y": "<z>"}}
	tests := []struct {
		name string
		c    flow.Callback
		url  string
		body string
	}{
		{"completed", flow.Callback{Kind: flow.CallbackCompleted}, "/complete", ``},
		{"errored", flow.Callback{Kind: flow.CallbackErrored, Error: `disk "full" <&>`}, "/fail", `{"errorMessage":"disk \"full\" <&>"}`},
		{"errored without a word", flow.Callback{Kind: flow.CallbackErrored, Error: " "}, "/fail", `{"errorMessage":"the data plane gave no reason"}`},
		{"prepared", flow.Callback{Kind: flow.CallbackPrepared, DataAddress: queue}, "/provisioned", `{"properties":{"header:Accept":"text/csv",` +
			`"https://w3id.org/edc/v0.0.1/ns/bucketName":"b","https://w3id.org/edc/v0.0.1/ns/type":"AmazonS3","https://x.example/y":"<z>"}}`},
		{"prepared, to be written to over HTTP", flow.Callback{Kind: flow.CallbackPrepared, DataAddress: ingest}, "/provisioned",
			`{"properties":{"https://w3id.org/edc/v0.0.1/ns/authCode":"Bearer t","https://w3id.org/edc/v0.0.1/ns/authKey":"Authorization",` +
				`"https://w3id.org/edc/v0.0.1/ns/authorization":"t","https://w3id.org/edc/v0.0.1/ns/baseUrl":"https://dp/in",` +
				`"https://w3id.org/edc/v0.0.1/ns/endpoint":"https://dp/in","https://w3id.org/edc/v0.0.1/ns/type":"HttpData"}}`},
		{"started", flow.Callback{Kind: flow.CallbackStarted}, "/provisioned", `{"properties":{"https://w3id.org/edc/v0.0.1/ns/type":"HttpData"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Key = flow.Key{Context: flow.DefaultContext, ID: "tp/1 ?"}
			url, body := new(Client).Callback(endpoint+"/", tt.c)
			if want := endpoint + "/transferprocess/tp%2F1%20%3F" + tt.url; url != want {
				t.Errorf("%s, want %s", url, want)
			}
			if diff := cmp.Diff(tt.body, string(body)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tt.body == "" && body != nil {
				t.Error("there is a body")
			}
		})
	}
}

func TestWhereCallbacksGo(t *testing.T) {
	tests := []struct {
		to, want string // "" : the endpoint
	}{
		{"", ""},
		{endpoint, ""},
		{"http://cp:9191/other/", "http://cp:9191/other"},
		{"http://CP:9191/other", "http://CP:9191/other"},
		{"http://cp-0:9191/api/control", "http://cp-0:9191/api/control"},
		{"https://cp-1/x", "https://cp-1/x"},
		{"https://cp-1:443/x", "https://cp-1:443/x"},
		{"http://cp-1/x", ""},
		{"https://cp:9191/api/control", ""},
		{"http://cp:9192/api/control", ""},
		{"http://cp/api/control", ""},
		{"http://evil.example/api/control", ""},
		{"http://cp:9191@evil.example/", ""},
		{"http://me:secret@cp:9191/x", ""},
		{"http://cp:9191/x?next=http://evil", ""},
		{"http://cp:9191/x#y", ""},
		{"//cp:9191/x", ""},
		{"file:///cp:9191/x", ""},
		{"cp:9191", ""},
		{"http://[::1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.to, func(t *testing.T) {
			var log bytes.Buffer
			c := &Client{CallbackAddresses: []string{"http://cp-0:9191/anything", "https://cp-1"}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			cb := flow.Callback{Key: flow.Key{ID: "f"}, ControlPlane: "cp", Kind: flow.CallbackCompleted, To: tt.to}
			want := tt.want
			if want == "" {
				want = endpoint
			}
			for range 2 {
				if got, _ := c.Callback(endpoint, cb); got != want+"/transferprocess/f/complete" {
					t.Errorf("%s", got)
				}
			}
			warnings := 0
			if tt.want == "" && tt.to != "" && tt.to != endpoint {
				warnings = 1
			}
			if n := strings.Count(log.String(), "\n"); n != warnings || strings.Contains(log.String(), "secret") {
				t.Errorf("%d lines, want %d:\n%s", n, warnings, &log)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	tests := []struct {
		status         int
		age            time.Duration
		arrived, final bool
	}{
		{200, 0, true, false},
		{204, 0, true, false},
		{201, 0, false, false},
		{202, 0, false, false},
		{302, 0, false, false},
		{400, 0, false, true},
		{401, 0, false, false},
		{403, 0, false, false},
		{404, 14 * time.Minute, false, false},
		{404, 15 * time.Minute, false, true},
		{409, 0, false, false},
		{409, 23 * time.Hour, false, false},
		{415, 0, false, true},
		{429, 0, false, false},
		{500, 23 * time.Hour, false, false},
		{503, 0, false, false},
	}
	for _, tt := range tests {
		if arrived, final := new(Client).Verdict(tt.status, tt.age); arrived != tt.arrived || final != tt.final {
			t.Errorf("%d after %v: arrived %v, final %v", tt.status, tt.age, arrived, final)
		}
	}
}

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkLoad is a host that holds ten thousand STARTED pull flows: what each costs in memory, how fast they start, and how many
// signals a second it answers then: suspends, resumes and questions for the status from 64 callers, over HTTP, each of the first two a
// synchronous commit. It fails if a single signal is not answered as it should be, or if a flow is not STARTED at the end.
func BenchmarkLoad(b *testing.B) {
	const flows, callers, rounds = 10_000, 64, 20_000
	h := startHost(b)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	var failed atomic.Value
	send := func(method, path, body string) {
		req, err := http.NewRequest(method, "http://"+h.signaling+"/dataflows/"+path, bytes.NewBufferString(body))
		if err == nil {
			req.Header.Set("Content-Type", "application/json")
			var resp *http.Response
			if resp, err = client.Do(req); err == nil {
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					err = fmt.Errorf("%s: %s %s", path, resp.Status, text)
				}
			}
		}
		if err != nil {
			failed.CompareAndSwap(nil, err)
		}
	}
	each := func(n int, do func(i int)) time.Duration {
		var next atomic.Int64
		var wg sync.WaitGroup
		begun := time.Now()
		for range callers {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < n && failed.Load() == nil; i = int(next.Add(1)) - 1 {
					do(i)
				}
			})
		}
		wg.Wait()
		if err := failed.Load(); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	for b.Loop() {
		idle := h.memory("VmRSS")
		took := each(flows, func(i int) {
			send(http.MethodPost, "start", fmt.Sprintf(`{"messageId":"start-%d","dataFlowId":"load-%[1]d","participantId":"did:web:us.example",
				"counterPartyId":"did:web:them.example","dataspaceContext":"d","agreementId":"a","datasetId":"large","profile":"load-pull","claims":{}}`, i))
		})
		b.ReportMetric(flows/took.Seconds(), "starts/s")
		b.ReportMetric((h.memory("VmRSS")-idle)*1024/flows, "KiB-each-flow")
		took = each(rounds, func(i int) {
			path := fmt.Sprintf("load-%d/", i%flows)
			send(http.MethodPost, path+"suspend", fmt.Sprintf(`{"messageId":"suspend-%d"}`, i))
			send(http.MethodGet, path+"status", "")
			send(http.MethodPost, path+"resume", fmt.Sprintf(`{"messageId":"resume-%d"}`, i))
		})
		b.ReportMetric(3*rounds/took.Seconds(), "signals/s")
		b.ReportMetric(h.memory("VmHWM"), "MiB-at-most")
		if n := h.started(); n != flows {
			b.Fatalf("%d flows are STARTED, not %d", n, flows)
		}
	}
	b.ReportMetric(0, "ns/op")
}

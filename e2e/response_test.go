//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// answeredConfiguration has flows whose consumer can answer, as EDC names them and as an operator may.
const answeredConfiguration = `
profile "HttpData-PUSH-HttpData" {
  type       = "HttpData"
  allow_http = true
}

profile "answered-pull" {
  type       = "HttpData"
  allow_http = true
  response {}
}

dataset "answered" {
  source "File" {
    path = "outbox"
  }

  sink "File" {
    path = "inbox"
  }

  response "File" {
    path = "answers"
  }
}
`

// channel is a response channel as its address tells of it.
type channel struct {
	t                     *testing.T
	endpoint, typ, access string
}

// channelOf reads the response channel of an address. The address has nothing else for its consumer if only says so.
func channelOf(t *testing.T, a *dataAddress, only bool) channel {
	t.Helper()
	if a == nil {
		t.Fatal("there is no address")
	}
	c := channel{t: t}
	for _, p := range a.EndpointProperties {
		switch name := strings.TrimPrefix(p.Name, edcNames); {
		case p.Name == edcNames+"responseChannel-endpoint":
			c.endpoint = p.Value
		case p.Name == edcNames+"responseChannel-endpointType":
			c.typ = p.Value
		case p.Name == edcNames+"responseChannel-authorization":
			c.access = p.Value
		case only && !strings.HasPrefix(name, "responseChannel-") && name != "endpoint":
			t.Errorf("the address also has %s", p.Name)
		}
	}
	if c.endpoint == "" || c.typ == "" || c.access == "" || only && (a.Endpoint != c.endpoint || a.EndpointType != c.typ) {
		t.Fatalf("no response channel in %+v", a)
	}
	return c
}

// say sends a message, and expects an answer; retry is what a refusal says, "" for none.
func (c channel) say(name, content string, code int, retry string) {
	c.t.Helper()
	got, text, err := request(http.MethodPut, c.endpoint+"/"+name, c.access, content)
	var p struct{ Retry *bool }
	if err != nil || got != code || json.Unmarshal([]byte(text), &p) != nil {
		c.t.Errorf("message %s: %d %s %v, want %d", name, got, text, err, code)
		return
	}
	if said := p.Retry; retry == "" && said != nil || retry != "" && (said == nil || fmt.Sprint(*said) != retry) {
		c.t.Errorf("message %s: %s, want retry %s", name, text, retry)
	}
}

// responses are how many parts the admin API counts on the response channel of a flow.
func (h *host) responses(id string) int64 {
	h.t.Helper()
	var f struct {
		Response     *struct{ Parts int64 }
		ResponseList []struct{ Name string }
	}
	h.ask("/api/v1/flows/"+id, &f)
	if f.Response == nil || int64(len(f.ResponseList)) != f.Response.Parts {
		h.t.Fatalf("the %s shows of the response channel of %s: %+v", h.name, id, f)
	}
	return f.Response.Parts
}

// answered returns a dataspace of hosts with answeredConfiguration.
func answered(t *testing.T, size int64) *dataspace {
	t.Helper()
	d := &dataspace{t: t, provider: newHost(t, "provider", answeredConfiguration), consumer: newHost(t, "consumer", answeredConfiguration)}
	d.files = makeTree(t, d.provider.outbox(), 7, size)
	for _, h := range []*host{d.provider, d.consumer} {
		h.launch()
	}
	for _, h := range []*host{d.provider, d.consumer} {
		h.awaitReady()
	}
	return d
}

func (d *dataspace) expectAnswers(want map[string]string) {
	d.t.Helper()
	folder := filepath.Join(d.provider.files, "answers")
	if got := readTree(d.t, folder); len(got) != len(want) {
		d.t.Errorf("answers %v, want %v", got, want)
	}
	for name, content := range want {
		if got, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(got) != content {
			d.t.Errorf("answer %s is %q, %v", name, got, err)
		}
	}
}

// While the provider pushes, its consumer answers. The channel stands still with the flow, survives the provider's death, and ends with
// the push.
func TestAnswersToAPush(t *testing.T) {
	t.Parallel()
	d := answered(t, 16*mib)
	d.consumer.network.rate.Store(mib / 16) // it goes on for as long as the story does
	f := newTransfer("push")
	prepared := d.consumer.signal("prepare", creation(f.consumer, "HttpData-PUSH-HttpData", "answered", nil))
	started := d.provider.signal("start", creation(f.provider, "HttpData-PUSH-HttpData", "answered", prepared.DataAddress))
	d.expectAnswer(started, "STARTED", true)
	first := channelOf(t, started.DataAddress, true)
	d.consumer.signal(f.consumer+"/started", message{"messageId": newID(), "dataAddress": started.DataAddress})

	// The consumer's host hands it to local applications, under the names that EDC gave it.
	var held struct{ Properties map[string]string }
	d.consumer.ask("/api/v1/flows/"+f.consumer+"/address", &held)
	if held.Properties["responseChannel-endpoint"] != first.endpoint || held.Properties["responseChannel-authorization"] != first.access {
		t.Errorf("a local application is told %v", held.Properties)
	}
	first.say("hello", "I am here", http.StatusCreated, "")
	first.say("hello", "I am here", http.StatusOK, "")
	if code, text, err := request(http.MethodPost, first.endpoint, first.access, "no name"); err != nil || code != http.StatusCreated {
		t.Errorf("a message without a name: %d %s %v", code, text, err)
	}

	d.provider.signal(f.provider+"/suspend", nil)
	first.say("early", "x", http.StatusServiceUnavailable, "true")
	resumed := d.provider.signal(f.provider+"/resume", message{"messageId": newID(), "dataAddress": prepared.DataAddress})
	second := channelOf(t, resumed.DataAddress, true)
	first.say("early", "x", http.StatusForbidden, "false")
	second.say("again", "still here", http.StatusCreated, "")

	d.provider.kill()
	d.provider.start()
	second.say("later", "and still", http.StatusCreated, "")
	if n := d.provider.responses(f.provider); n != 4 {
		t.Errorf("%d answers are counted", n)
	}
	if n := d.provider.flow(f.provider).Parts; n > int64(len(d.files)) {
		t.Errorf("%d parts of %d files", n, len(d.files))
	}

	d.consumer.network.rate.Store(0)
	d.finishPush(f)
	second.say("late", "x", http.StatusGone, "false")
	d.expectAnswers(map[string]string{"hello": "I am here", "part-1": "no name", "again": "still here", "later": "and still"})
}

// The consumer of a pull answers beside its reading. A message that is on its way when the flow is terminated leaves nothing behind.
func TestAnswersToAPull(t *testing.T) {
	t.Parallel()
	d := answered(t, mib)
	f := newTransfer("pull")
	started := d.provider.signal("start", creation(f.provider, "answered-pull", "answered", nil))
	c := channelOf(t, started.DataAddress, false)
	if c.access == started.DataAddress.token() || c.endpoint == started.DataAddress.Endpoint {
		t.Error("the channel is that of the data")
	}
	d.consumer.signal("prepare", creation(f.consumer, "answered-pull", "answered", nil))
	d.consumer.signal(f.consumer+"/started", message{"messageId": newID(), "dataAddress": started.DataAddress})
	c.say("a/b", "one", http.StatusCreated, "")
	d.consumer.controlPlane.expect(t, f.consumer, "completed")
	expectTree(t, d.consumer.inbox(), d.files)
	if code, _, err := request(http.MethodPut, c.endpoint+"/x", started.DataAddress.token(), "x"); err != nil || code != http.StatusForbidden {
		t.Errorf("a message with the token of the data: %d %v", code, err)
	}

	body, sender := io.Pipe()
	req, err := http.NewRequest(http.MethodPut, c.endpoint+"/half", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.access)
	answer := make(chan int, 1)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			answer <- 0 // the answer may be lost with the connection
			return
		}
		resp.Body.Close()
		answer <- resp.StatusCode
	}()
	if _, err := sender.Write(make([]byte, mib)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message is on its way", func() bool {
		var shown struct {
			Response struct{ Movement *struct{ Requests int } }
		}
		d.provider.ask("/api/v1/flows/"+f.provider, &shown)
		return shown.Response.Movement != nil && shown.Response.Movement.Requests == 1
	})
	d.provider.signal(f.provider+"/terminate", nil)
	if code := <-answer; code != http.StatusGone && code != 0 {
		t.Errorf("a message that was cut: %d", code)
	}
	sender.Close()
	c.say("late", "x", http.StatusGone, "false")
	d.provider.expectNothingLeft(f.provider)
	d.expectAnswers(map[string]string{"a/b": "one"})
}

// Answers come from several senders while the provider is killed again and again. Each that was answered is there, whole and once: who heard
// nothing sends it again under its name.
func TestAnswersSurviveKills(t *testing.T) {
	t.Parallel()
	const senders, each, size = 4, 20, 200_000
	d := &dataspace{t: t, provider: newHost(t, "provider", answeredConfiguration)}
	makeTree(t, d.provider.outbox(), 9, 1000)
	d.provider.start()
	c := channelOf(t, d.provider.signal("start", creation("f", "answered-pull", "answered", nil)).DataAddress, false)
	content := func(sender, n int) string { return strings.Repeat(fmt.Sprintf("%d/%d ", sender, n), size/4) }
	want := map[string]string{}
	for sender := range senders {
		for n := range each {
			want[fmt.Sprintf("%d/%d", sender, n)] = content(sender, n)
		}
	}
	var wg sync.WaitGroup
	var done atomic.Int64
	for sender := range senders {
		wg.Go(func() {
			for n := range each {
				if !c.insist(fmt.Sprintf("%d/%d", sender, n), content(sender, n)) {
					return
				}
				done.Add(1)
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		next := min(done.Load()+1+random.Int64N(senders*each/4), senders*each)
		eventually(t, "some have been answered", func() bool { return done.Load() >= next || t.Failed() })
		d.provider.kill()
		d.provider.start()
	}
	wg.Wait()
	d.expectAnswers(want)
	if n := d.provider.responses("f"); n != senders*each {
		t.Errorf("%d answers are counted, of %d", n, senders*each)
	}
	d.provider.signal("f/terminate", nil)
	d.provider.expectNothingLeft("f")
}

// insist sends a message until it is durable, for as long as there is nobody, or a refusal says to.
func (c channel) insist(name, content string) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		code, text, err := request(http.MethodPut, c.endpoint+"/"+name, c.access, content)
		var p struct{ Retry bool }
		switch {
		case err != nil:
		case code == http.StatusCreated || code == http.StatusOK:
			return true
		case json.Unmarshal([]byte(text), &p) != nil || !p.Retry:
			c.t.Errorf("message %s: %d %s", name, code, text)
			return false
		}
	}
	c.t.Errorf("message %s was never taken", name)
	return false
}

// carriedConfiguration has flows whose answers come through a topic of their own.
const carriedConfiguration = `
plugin "kafka" {
  config {
    allow     = ["loopback"]
    provision = {
      "kafka.bootstrap.servers" = env("E2E_BROKERS")
      "kafka.security.protocol" = "PLAINTEXT"
    }
  }
}

profile "carried-pull" {
  type       = "HttpData"
  allow_http = true
  response {
    provision = "Kafka"
  }
}

dataset "carried" {
  source "File" {
    path = "outbox"
  }

  response "Kafka" {
    topic         = "answers"
    transactional = "true"

    properties = {
      "kafka.bootstrap.servers" = env("E2E_BROKERS")
      "kafka.security.protocol" = "PLAINTEXT"
    }
  }
}
`

// A topic that the Kafka plugin makes carries the answers to another, past a suspend and past the host's death, each once; and it stops
// with the flow.
func TestAnswersThroughATopic(t *testing.T) {
	t.Parallel()
	k := newKafka(t)
	k.makeTopic("answers", 1)
	h := newHost(t, "provider", carriedConfiguration, "E2E_BROKERS="+k.address)
	makeTree(t, h.outbox(), 1, 1000)
	h.start()
	started := h.signal("start", creation("f", "carried-pull", "carried", nil))
	topic := ""
	for _, p := range started.DataAddress.EndpointProperties {
		switch p.Name {
		case edcNames + "responseChannel-topic":
			topic = p.Value
		case edcNames + "responseChannel-endpointType":
			if p.Value != "Kafka" {
				t.Errorf("endpointType %s", p.Value)
			}
		}
	}
	if topic == "" || topic == "answers" {
		t.Fatalf("topic %q in %+v", topic, started.DataAddress)
	}
	sent := 0
	send := func(n int) {
		t.Helper()
		for range n {
			if err := k.client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, sent)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	arrive := func() {
		t.Helper()
		eventually(t, "all answers have arrived", func() bool { return len(k.read("answers")) >= sent })
		for i, v := range k.read("answers") {
			if v != fmt.Sprint(i) {
				t.Fatalf("answer %d is %s", i, v)
			}
		}
	}
	send(50)
	arrive()
	if code, body, err := fetch(started.DataAddress.Endpoint, started.DataAddress.token()); err != nil || code != http.StatusOK {
		t.Errorf("the data: %d %s %v", code, body, err)
	}

	h.signal("f/suspend", nil)
	before := len(k.read("answers"))
	send(50)
	h.kill()
	h.start()
	h.expectState("f", "SUSPENDED")
	if after := len(k.read("answers")); after != before {
		t.Errorf("%d answers came while the flow was suspended", after-before)
	}
	h.signal("f/resume", nil)
	arrive()
	h.kill()
	send(50)
	h.start()
	arrive()
	var shown struct{ Response struct{ Bytes int64 } }
	eventually(t, "answers are counted", func() bool { // but for those that became durable right before a kill or a suspend
		h.ask("/api/v1/flows/f", &shown)
		return shown.Response.Bytes > 0
	})

	h.signal("f/terminate", nil)
	h.expectNothingLeft("f")
	before = len(k.read("answers"))
	send(1)
	if after := len(k.read("answers")); after != before {
		t.Errorf("%d answers came after the end", after-before)
	}
}

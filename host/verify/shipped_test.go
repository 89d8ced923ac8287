//go:build !race

package verify

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Under the race detector TestSound goes through all that these do, in a third of the time.

// wantPassed fails the test for each check that failed.
func wantPassed(t *testing.T, r *Report) {
	t.Helper()
	for _, c := range r.Checks {
		if c.Outcome == Failed {
			t.Errorf("%s (%s): %s", c.ID, c.Subject, c.Reason)
		}
	}
	if r.Passed < 40 {
		t.Errorf("only %d checks passed", r.Passed)
	}
}

// The plugins that Towpath ships keep the promises of the protocol.
func TestShipped(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"file", "onefile", "synthetic"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantPassed(t, verify(t, build(t, "plugins/"+name), name, Options{}, nil))
		})
	}
}

// storage is a server that content can be fetched from, and sent to.
func storage(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusCreated)
		return
	}
	n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/bytes/"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	body := make([]byte, n)
	content{seed: uint64(n)}.fill(body, 0)
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func TestShippedHTTP(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(storage))
	defer server.Close()
	wantPassed(t, verify(t, build(t, "plugins/http"), "http", Options{}, map[string]string{"url": server.URL}))
}

func TestShippedKafka(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "events", "inbox"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range 3000 {
		r := &kgo.Record{Topic: "events", Key: []byte(strconv.Itoa(i)), Value: bytes.Repeat([]byte{byte(i)}, 3000)}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	wantPassed(t, verify(t, build(t, "plugins/kafka"), "kafka", Options{}, map[string]string{"broker": cluster.ListenAddrs()[0]}))
}

// mailbox is an SMTP server's session that throws mails away.
type mailbox struct{}

func (mailbox) Reset()                               {}
func (mailbox) Logout() error                        { return nil }
func (mailbox) Mail(string, *smtp.MailOptions) error { return nil }

func (mailbox) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	return nil
}

func (mailbox) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func TestShippedMail(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return mailbox{}, nil }))
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	defer func() {
		server.Close()
		l.Close() // the server may not have known it yet
		<-done
	}()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	wantPassed(t, verify(t, build(t, "plugins/mail"), "mail", Options{}, map[string]string{"port": port}))
}

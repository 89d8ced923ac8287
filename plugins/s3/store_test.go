package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	testKey    = "test-access-key"
	testSecret = "test-secret-access-key"
)

// server is the store that all tests of the package use, each with buckets of its own.
var server struct {
	url    string
	folder string // that holds the buckets
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "s3")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	stop, err := startServer(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	return m.Run()
}

// startServer starts versitygw on a free port and waits until it answers.
func startServer(dir string) (stop func(), err error) {
	binary, err := filepath.Abs("../../.bin/versitygw")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("the store for tests is not there: run make .bin/versitygw (%w)", err)
	}
	for _, sub := range []string{"iam", "data"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()
	var output bytes.Buffer
	cmd := exec.Command(binary, "--port", address, "--access", testKey, "--secret", testSecret, "--health", "/_health", "--quiet",
		"--iam-dir", filepath.Join(dir, "iam"), "posix", filepath.Join(dir, "data"))
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	stop = func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-exited
		}
	}
	server.url, server.folder = "http://"+address, filepath.Join(dir, "data")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-exited:
			return nil, fmt.Errorf("versitygw ended: %v\n%s", err, output.String())
		default:
		}
		if resp, err := http.Get(server.url + "/_health"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				http.DefaultClient.CloseIdleConnections()
				return stop, nil
			}
		}
	}
	stop()
	return nil, fmt.Errorf("versitygw does not answer\n%s", output.String())
}

// bucket is a bucket that a test can look into from behind.
type bucket struct {
	t      testing.TB
	name   string
	client *s3.Client
}

var buckets atomic.Int64

func newBucket(t testing.TB) *bucket {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second} // suites count goroutines
	b := &bucket{t: t, name: fmt.Sprintf("bucket-%d", buckets.Add(1)), client: s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &server.url, UsePathStyle: true, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
	})}
	if _, err := b.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &b.name}); err != nil {
		t.Fatal(err)
	}
	return b
}

// address returns an address of the bucket.
func (b *bucket) address(properties ...string) sdk.DataAddress {
	return b.at(server.url, properties...)
}

func (b *bucket) at(endpoint string, properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: addressType, Properties: map[string]string{
		"bucketName": b.name, "endpointOverride": endpoint, "accessKeyId": testKey, "secretAccessKey": testSecret,
	}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return a
}

func (b *bucket) put(key string, content []byte) {
	b.t.Helper()
	_, err := b.client.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: bytes.NewReader(content)})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bucket) content(key string) ([]byte, error) {
	out, err := b.client.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

// keys lists the objects with a prefix, those of the plugin's own only if asked.
func (b *bucket) keys(prefix string, own bool) ([]string, error) {
	keys := []string{}
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			if isWork(aws.ToString(o.Key)) == own && !strings.HasSuffix(aws.ToString(o.Key), "/") {
				keys = append(keys, aws.ToString(o.Key))
			}
		}
	}
	return keys, nil
}

// uploads lists the keys of the uploads that are not finished.
func (b *bucket) uploads() ([]string, error) {
	out, err := b.client.ListMultipartUploads(context.Background(), &s3.ListMultipartUploadsInput{Bucket: &b.name})
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, u := range out.Uploads {
		keys = append(keys, aws.ToString(u.Key))
	}
	return keys, nil
}

// begun lists whatever the sink keeps for flows.
func (b *bucket) begun() ([]string, error) {
	own, err := b.keys("", true)
	if err != nil {
		return nil, err
	}
	uploads, err := b.uploads()
	return append(own, uploads...), err
}

// newTestPlugin returns the plugin as an operator configures it: with access to loopback addresses. Connections are not kept, because
// suites count goroutines.
func newTestPlugin(t testing.TB, more map[string]any) sdk.Plugin {
	t.Helper()
	config := map[string]any{"allow": []string{"loopback"}}
	maps.Copy(config, more)
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlugin()
	if err := p.Configure(t.Context(), sdk.Config{JSON: text}); err != nil {
		t.Fatal(err)
	}
	p.Sources[0].Source.(*source).env.http.Transport.(*guard).transport.DisableKeepAlives = true
	return p
}

// proxy stands between the plugin and the store. edit, if it is not nil, sees each request and says whether it was answered.
func newProxy(t testing.TB, edit func(w http.ResponseWriter, req *http.Request) bool) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if edit != nil && edit(w, req) {
			return
		}
		forward(transport, w, req)
	})}
	s.SetKeepAlivesEnabled(false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(listener)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}

// forward hands a request on as it is: its signature is over the host that the client knows.
func forward(transport *http.Transport, w http.ResponseWriter, req *http.Request) {
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", strings.TrimPrefix(server.url, "http://"), ""
	resp, err := transport.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	if resp.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// readAll reads all parts of an address.
func readAll(ctx context.Context, source sdk.DataSource, open sdk.ReadOpen) (map[string][]byte, []string, error) {
	stream, err := source.Read(ctx, open)
	if err != nil {
		return nil, nil, err
	}
	defer stream.Close()
	content, names := map[string][]byte{}, []string{}
	for {
		f, err := stream.Recv()
		if err == io.EOF {
			return content, names, nil
		}
		if err != nil {
			return content, names, err
		}
		switch f := f.(type) {
		case *sdk.PartBegin:
			names = append(names, f.Name)
			content[f.Name] = []byte{}
		case *sdk.Data:
			var b bytes.Buffer
			f.WriteTo(&b)
			content[names[len(names)-1]] = slices.Concat(content[names[len(names)-1]], b.Bytes())
		}
		sdk.Release(f)
	}
}

//go:build linux

package e2e_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const s3Configuration = `
plugin "s3" {
  config {
    allow               = ["loopback"]
    default_credentials = [env("E2E_STORE_GRANT")]
    access_key_id       = "e2e-access-key"
    secret_access_key   = "e2e-secret-access-key"
  }
}

profile "AmazonS3-PUSH" {
  type       = "AmazonS3"
  allow_http = true
}

profile "AmazonS3-PULL" {
  type       = "AmazonS3"
  allow_http = true
}
`

// objectStore is a store that keeps buckets as folders, behind a network that can be slow.
type objectStore struct {
	folder  string
	direct  string // its address, past the network
	network *network
}

// startObjectStore starts versitygw, which make builds.
func startObjectStore(t *testing.T) *objectStore {
	t.Helper()
	return startObjectStoreIn(t, t.TempDir())
}

func startObjectStoreIn(t *testing.T, folder string) *objectStore {
	t.Helper()
	binary, err := filepath.Abs("../.bin/versitygw")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("the store for tests is not there: run make .bin/versitygw (%v)", err)
	}
	address := freeAddress(t)
	s := &objectStore{folder: folder, direct: address}
	startProcess(t, nil, binary, "--port", address, "--access", "e2e-access-key", "--secret", "e2e-secret-access-key",
		"--health", "/_health", "--quiet", "--iam-dir", t.TempDir(), "posix", s.folder)
	eventually(t, "the store is ready", func() bool {
		code, _, err := fetch("http://"+address+"/_health", "")
		return err == nil && code == http.StatusOK
	})
	s.network = newNetwork(t, address)
	return s
}

// address names a folder of a bucket.
func (s *objectStore) address(bucket string, properties ...string) *dataAddress {
	a := &dataAddress{Type: "DataAddress", EndpointType: "AmazonS3", Endpoint: "http://" + s.network.address}
	for pair := range slices.Chunk(append([]string{"bucketName", bucket}, properties...), 2) {
		a.EndpointProperties = append(a.EndpointProperties, endpointProperty{"EndpointProperty", pair[0], pair[1]})
	}
	return a
}

// expectNothingBegun checks that the bucket has only finished objects.
func (s *objectStore) expectNothingBegun(t *testing.T, bucket string) {
	t.Helper()
	for _, name := range s.begun(bucket) {
		t.Errorf("%s is left in the bucket", name)
	}
}

// begun lists what is in the bucket besides finished objects.
func (s *objectStore) begun(bucket string) (names []string) {
	root := filepath.Join(s.folder, bucket)
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		if own := strings.Contains(name, "/.towpath/") || strings.Contains(name, "/.sgwtmp/"); err == nil && !d.IsDir() && own {
			names = append(names, name)
		}
		return err
	})
	return names
}

// client is one that goes past the network.
func (s *objectStore) client() *s3.Client {
	return s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + s.direct), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("e2e-access-key", "e2e-secret-access-key", ""),
	})
}

// A tree of files goes to a bucket and from there to files again. The host is killed on the way, twice each.
func TestThroughObjectStore(t *testing.T) {
	t.Parallel()
	const size, rate = 64 * mib, 24 * mib
	store := startObjectStore(t)
	if err := os.Mkdir(filepath.Join(store.folder, "e2e-bucket"), 0o700); err != nil {
		t.Fatal(err)
	}
	grant := fmt.Sprintf("http://%s/e2e-*", store.network.address)
	h := newHost(t, "host", s3Configuration, "E2E_STORE_GRANT="+grant)
	files := makeTree(t, h.outbox(), 11, size)
	guard(t, h.inbox(), files)
	guard(t, filepath.Join(store.folder, "e2e-bucket", "in"), files)
	h.start()
	store.network.rate.Store(rate)

	killOnTheWay := func() {
		for range 2 {
			store.network.awaitPassed(t, size/5)
			h.kill()
			h.start()
		}
	}
	h.signal("start", creation("out", "AmazonS3-PUSH", "tree", store.address("e2e-bucket", "folderName", "in")))
	killOnTheWay()
	h.controlPlane.expect(t, "out", "completed")
	expectTree(t, filepath.Join(store.folder, "e2e-bucket", "in"), files)
	h.expectState("out", "COMPLETED")
	h.expectNothingLeft("out")
	store.expectNothingBegun(t, "e2e-bucket")

	h.signal("prepare", creation("back", "AmazonS3-PULL", "tree", nil))
	h.signal("back/started", message{"messageId": newID(), "dataAddress": store.address("e2e-bucket", "objectPrefix", "in/")})
	killOnTheWay()
	h.controlPlane.expect(t, "back", "completed")
	expectTree(t, h.inbox(), files)
	h.expectState("back", "COMPLETED")
	h.expectNothingLeft("back")
	if out, back := h.flow("out").Digest, h.flow("back").Digest; out == "" || out != back {
		t.Errorf("the digests of the two flows are %q and %q", out, back)
	}
}

// A flow to a bucket that is terminated leaves no upload, and a peer's address does not get at other buckets with the operator's
// credentials.
func TestTerminateToObjectStore(t *testing.T) {
	t.Parallel()
	store := startObjectStore(t)
	for _, bucket := range []string{"e2e-bucket", "private"} {
		if err := os.Mkdir(filepath.Join(store.folder, bucket), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t, "host", s3Configuration, fmt.Sprintf("E2E_STORE_GRANT=http://%s/e2e-*", store.network.address))
	makeTree(t, h.outbox(), 12, 64*mib)
	h.start()
	if a, err := h.try("start", creation("private", "AmazonS3-PUSH", "tree", store.address("private"))); err != nil || a.code < 400 {
		t.Errorf("a flow to a bucket that was not granted: %d %s %v", a.code, a.text, err)
	}
	store.network.rate.Store(8 * mib)
	h.signal("start", creation("out", "AmazonS3-PUSH", "tree", store.address("e2e-bucket")))
	store.network.awaitPassed(t, 12*mib)
	store.network.rate.Store(0)
	h.signal("out/terminate", nil)
	h.expectState("out", "TERMINATED")
	h.expectNothingLeft("out")
	store.expectNothingBegun(t, "e2e-bucket")
}

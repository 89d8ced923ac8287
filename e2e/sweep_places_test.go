//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"
)

// sweepBucket is where all flows of a world keep objects.
const sweepBucket = "e2e-sweep"

// The networks in front of the store and of the brokers are slow, so that flows take their time.
const (
	storeRate   = 8 * mib
	brokersRate = 512 << 10
)

// buildPlaces makes what flows of all hosts share: a store of objects and brokers.
func (s *sweep) buildPlaces() {
	s.t.Helper()
	folder := s.t.TempDir()
	if s.ownDisk {
		mountSmallDisk(s.t, folder, s.storeRoom())
		// The store keeps what it knows of objects in attributes, which file systems in memory have only of late.
		if err := unix.Setxattr(folder, "user.e2e", []byte("x"), 0); err == nil {
			s.storeDisk = true
		} else {
			fmt.Fprintf(os.Stderr, "%s: THE STORE HAS NO DISK OF ITS OWN TO FILL (%v)\n", s.t.Name(), err)
			folder = s.t.TempDir()
		}
	}
	s.store = startObjectStoreIn(s.t, folder)
	s.kafka = newKafka(s.t)
	if err := os.MkdirAll(filepath.Join(folder, sweepBucket, "in"), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// storeRoom is what the store needs: sources, sinks, parts of uploads and what is kept until it is one.
func (s *sweep) storeRoom() int64 {
	room := int64(96 * mib)
	for _, f := range s.flows {
		if f.toStore() {
			room += 4 * f.size
		}
	}
	return room
}

// watchPlaces begins to look at what happens in the store and at the brokers, once they have what flows are to read.
func (s *sweep) watchPlaces() {
	s.t.Helper()
	s.store.network.rate.Store(storeRate)
	s.kafka.network.rate.Store(brokersRate)
	objects := &sentinel{root: filepath.Join(s.store.folder, sweepBucket), final: s.final, replaces: true, watched: map[int32]string{},
		seen: map[string]uint64{}, report: func(format string, args ...any) { s.fail("in the store, "+format, args...) }}
	objects.start(s.t)
	requests := &bell{}
	s.kafka.fake.Control(func(r kmsg.Request) (kmsg.Response, error, bool) {
		requests.ring(kmsg.NameForKey(r.Key()))
		return nil, nil, false
	})
	s.sentinels = append(s.sentinels, objects)
	for _, watch := range s.sentinels {
		s.bells = append(s.bells, &watch.bell)
	}
	s.bells = append(s.bells, requests)
}

// storesName is what versitygw calls an object for the moment in which it replaces another.
var storesName = regexp.MustCompile(`(^|/)\.[^/]*\.sgwtmp\.[0-9]+$`)

// isStoresOwn reports whether a file in a bucket is no object, or one of the plugin's own.
func isStoresOwn(name string) bool {
	return strings.HasPrefix(name, ".towpath/") || strings.Contains(name, "/.towpath/") || storesName.MatchString(name)
}

// put stores the files of a folder as objects.
func (s *objectStore) put(t testing.TB, bucket, prefix, folder string) {
	t.Helper()
	client := s.client()
	err := walkFiles(folder, func(name string, _ os.FileInfo) error {
		f, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String(prefix + name), Body: f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// uploads lists the uploads that the store knows.
func (s *objectStore) uploads(t testing.TB, bucket string) (keys []string, err error) {
	out, err := s.client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		return nil, fmt.Errorf("list uploads: %w", err)
	}
	if aws.ToBool(out.IsTruncated) {
		err = errors.New("there are more")
	}
	for _, u := range out.Uploads {
		keys = append(keys, aws.ToString(u.Key))
	}
	return keys, err
}

// checkPlaces expects that nothing is left in the store that was begun.
func (s *sweep) checkPlaces() {
	if left := s.store.begun(sweepBucket); len(left) > 0 {
		s.fail("%v is left in the store", left)
	}
	if keys, err := s.store.uploads(s.t, sweepBucket); err != nil || len(keys) > 0 {
		s.fail("uploads to %q are left in the store, %v", keys, err)
	}
}

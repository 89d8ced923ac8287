package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	nonceSize = 16 // bytes

	// markName is the metadata of an object by which the sink knows what it has written.
	markName = "towpath-part"

	// targetName is the metadata of a tail of records: the escaped key of the object that they are meant for.
	targetName = "towpath-object"

	// recordsPrefix is what the last element of such a tail's key begins with.
	recordsPrefix = "records-"

	// noteName is the last element of the key of a note.
	noteName = "upload"

	// maxNote bounds what is read of a note.
	maxNote = 8 << 10
)

func newNonce() string {
	var b [nonceSize]byte
	rand.Read(b[:]) // which never fails
	return hex.EncodeToString(b[:])
}

// flowHash stands for a flow in keys. A flow's id is chosen by a peer and so is not a name.
func flowHash(flow sdk.FlowContext) string {
	return shortHash(flow.ParticipantContext + "\x00" + flow.ID)
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// work is what the sink keeps for a part that is not whole, in objects of its own.
type work struct {
	*store
	folder string // of the part, ends with '/'
	part   string // hash of flow and part
	nonce  string // of the attempt
	kept   bool   // there may be something
	tails  []string
	// target, if not nil, is the key of the object that a tail of records is meant for, by the position of the first.
	target func(first int64) string
}

func (w *writer) newWork(name, nonce string) *work {
	return &work{store: w.store, folder: w.to.work + w.flow + "/" + shortHash(name) + "/", part: shortHash(w.flow + "\x00" + name), nonce: nonce}
}

// mark is what the part's object carries.
func (k *work) mark() string { return k.part + "-" + k.nonce }

// isOwn reports whether an object is this part, written by this flow in any attempt.
func (k *work) isOwn(o *object) bool { return strings.HasPrefix(o.mark, k.part+"-") }

// note says which upload was begun for a part, so that it can be aborted by whoever finds the note. It is written before the upload is
// begun, without its id, and again with it.
type note struct {
	Key    string `json:"key"`
	Upload string `json:"upload,omitempty"`
	// Former are the uploads of attempts before, which were aborted. A part that was on its way then can have brought one back since.
	Former []string `json:"former,omitempty"`
}

// maxFormer is how many former uploads are remembered.
const maxFormer = 16

func (k *work) note(ctx context.Context, n note) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	k.kept = true
	var content blocks
	defer content.release()
	content.Write(text)
	return k.put(ctx, k.folder+noteName, &content, nil)
}

// begin begins an upload to a key, so that it is found by whoever comes after this process. One that an earlier attempt has left goes
// first.
func (k *work) begin(ctx context.Context, m *multipart, key, mediaType string) error {
	former, err := k.abortLeft(ctx)
	if err != nil {
		return err
	}
	if err := k.note(ctx, note{Key: key, Former: former}); err != nil {
		return err
	}
	if err := m.create(ctx, k.store, key, mediaType, k.mark()); err != nil {
		return err
	}
	return k.note(ctx, note{Key: key, Upload: m.id, Former: former})
}

// keptTails is how many tails are kept. A host stores a checkpoint some time after it was given, while more bytes come; what can be on
// its way by then is less than two parts, and each part has one tail.
const keptTails = 8

// tailKey is the object for the bytes behind so many that are in parts, or the records behind so many. One that is written again begins
// with what it was.
func (k *work) tailKey(behind int64) string {
	prefix := "tail-"
	if k.target != nil {
		prefix = recordsPrefix
	}
	return fmt.Sprintf("%s%s%d-%s", k.folder, prefix, behind, k.nonce)
}

// keepTail stores a tail, and removes one that no stored checkpoint needs.
func (k *work) keepTail(ctx context.Context, behind int64, content *blocks) error {
	key := k.tailKey(behind)
	k.kept = true
	var metadata map[string]string
	if k.target != nil {
		metadata = map[string]string{targetName: url.QueryEscape(k.target(behind))}
	}
	if err := k.put(ctx, key, content, metadata); err != nil {
		return err
	}
	if n := len(k.tails); n > 0 && k.tails[n-1] == key {
		return nil
	}
	if k.tails = append(k.tails, key); len(k.tails) <= keptTails {
		return nil
	}
	oldest := k.tails[0]
	k.tails = k.tails[1:]
	return k.remove(ctx, oldest)
}

// abortLeft aborts the uploads that earlier attempts have noted, and returns them.
func (k *work) abortLeft(ctx context.Context) ([]string, error) {
	key := k.folder + noteName
	o, err := k.head(ctx, key)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, aborted, err := k.abortNoted(ctx, types.Object{Key: &key, Size: &o.size, LastModified: &o.modified})
	return aborted[max(0, len(aborted)-maxFormer):], err
}

// clear removes everything, also what another attempt has left, and aborts uploads. A note of former ones stays until Deprovision.
func (k *work) clear(ctx context.Context) error {
	if !k.kept {
		return nil
	}
	_, err := k.store.clear(ctx, k.folder, clearing{keepFormer: true})
	return err
}

// clearing says how objects are removed.
type clearing struct {
	rescue     bool // objects are made of records that were acknowledged and are not in one
	keepFormer bool // notes of former uploads stay
}

// clear removes the plugin's own objects with a prefix, and aborts the uploads that notes among them name. It reports whether there was
// anything.
func (s *store) clear(ctx context.Context, prefix string, how clearing) (found bool, err error) {
	for {
		page, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix})
		if codeOf(err) == "NoSuchBucket" {
			return found, nil
		}
		if err != nil {
			return found, s.failure(ctx, err, "list", prefix)
		}
		found = found || len(page.Contents) > 0
		for _, o := range page.Contents {
			key := aws.ToString(o.Key)
			stays := false
			switch name := path.Base(key); {
			case name == noteName:
				var n note
				n, _, err = s.abortNoted(ctx, o)
				stays = how.keepFormer && len(n.Former) > 0
			case how.rescue && strings.HasPrefix(name, recordsPrefix):
				err = s.rescue(ctx, key)
			}
			if err != nil {
				return found, err
			}
			if stays {
				continue
			}
			if err := s.remove(ctx, key); err != nil {
				return found, err
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return found, nil
		}
	}
}

// rescue makes the object that a tail of records is meant for, if it is not there.
func (s *store) rescue(ctx context.Context, key string) error {
	tail, err := s.head(ctx, key)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	target, err := url.QueryUnescape(tail.target)
	if err != nil || target == "" {
		return nil // not a tail of this plugin
	}
	if _, err := s.head(ctx, target); !isMissing(err) {
		return err
	}
	_, err = s.client.CopyObject(ctx, &s3.CopyObjectInput{
		Bucket: &s.bucket, Key: &target, CopySource: aws.String(s.bucket + "/" + copySource(key)), ContentType: aws.String(recordsType),
		MetadataDirective: types.MetadataDirectiveReplace,
	})
	return s.failure(ctx, err, "write", target)
}

// copySource is a key as the header field for copies wants it: stores take a '+' for a space.
func copySource(key string) string {
	return strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(key))
}

// abortNoted aborts the uploads that a note names, and returns both.
func (s *store) abortNoted(ctx context.Context, o types.Object) (n note, aborted []string, err error) {
	var content blocks
	defer content.release()
	key := aws.ToString(o.Key)
	if aws.ToInt64(o.Size) > maxNote {
		return n, nil, nil // not a note of this plugin
	}
	if err := s.get(ctx, key, aws.ToInt64(o.Size), &content); err != nil {
		if isMissing(err) {
			err = nil
		}
		return n, nil, err
	}
	if n, err = decodeNote(&content); err != nil {
		return note{}, nil, nil // not a note of this plugin
	}
	aborted = slices.Clone(n.Former)
	if n.Upload != "" {
		aborted = append(aborted, n.Upload)
	}
	for _, id := range aborted {
		if err := s.abort(ctx, n.Key, id); err != nil {
			return n, nil, err
		}
	}
	if n.Upload != "" {
		return n, aborted, nil
	}
	since := aws.ToTime(o.LastModified)
	begun, err := s.abortSince(ctx, n.Key, since)
	if err != nil {
		return n, nil, err
	}
	// Whoever was to note the upload has ended while it was asked for: it may only come to be now.
	if err := pause(ctx, abortPause); err != nil {
		return n, nil, err
	}
	late, err := s.abortSince(ctx, n.Key, since)
	return n, slices.Concat(aborted, begun, late), err
}

func decodeNote(content *blocks) (note, error) {
	var n note
	err := json.NewDecoder(content.reader()).Decode(&n)
	if err == nil && n.Key == "" {
		err = fmt.Errorf("no key")
	}
	return n, err
}

// abortSince aborts the uploads to a key that were begun at a time of the store's clock or later: those that a process has begun and
// did not live to note. It returns them.
func (s *store) abortSince(ctx context.Context, key string, since time.Time) (ids []string, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: &key}
	for {
		page, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return ids, s.failure(ctx, err, "list uploads to", key)
		}
		for _, u := range page.Uploads {
			if aws.ToString(u.Key) != key || aws.ToTime(u.Initiated).Before(since.Truncate(time.Second)) {
				continue
			}
			ids = append(ids, aws.ToString(u.UploadId))
			if err := s.abort(ctx, key, aws.ToString(u.UploadId)); err != nil {
				return ids, err
			}
		}
		if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextUploadIdMarker) == "" {
			return ids, nil
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}

const (
	// A part that was on its way when an upload was aborted may be kept all the same, and the upload with it. It shows after a while.
	maxAborts  = 5
	abortPause = 250 * time.Millisecond
)

// abort ends an upload, and sees that it is gone. It does not matter whether it was there.
func (s *store) abort(ctx context.Context, key, id string) error {
	for n := time.Duration(1); ; n++ {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: &key, UploadId: &id})
		if err == nil {
			err = s.look(ctx, key, id, n*abortPause)
		}
		switch {
		case isGone(err):
			return nil
		case err != nil:
			return s.failure(ctx, err, "abort the upload to", key)
		case n == maxAborts:
			return sdk.Retryf(sdk.Unavailable, "the upload to %q is still there", key)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// look asks after a pause for the parts of an upload.
func (s *store) look(ctx context.Context, key, id string, after time.Duration) error {
	if err := pause(ctx, after); err != nil {
		return err
	}
	_, err := s.client.ListParts(ctx, &s3.ListPartsInput{Bucket: &s.bucket, Key: &key, UploadId: &id, MaxParts: aws.Int32(1)})
	return err
}

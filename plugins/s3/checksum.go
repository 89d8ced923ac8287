package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/towpath-dataplane/towpath/sdk"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	nvme       = crc64.MakeTable(0x9a6c9329ac4bc9b5)
)

// checksum is one of a whole object that a store has computed.
type checksum struct {
	name string // as sdk.Algorithm, where that has one
	want []byte
	new  func() hash.Hash
}

// newChecksum returns the one that costs least to check, nil if there is none. Those of type composite are over the checksums of parts
// and say nothing of the whole.
func newChecksum(kind types.ChecksumType, crc32c, sha, crc64nvme, crc *string) *checksum {
	if kind == types.ChecksumTypeComposite {
		return nil
	}
	for _, c := range []struct {
		value *string
		name  string
		new   func() hash.Hash
	}{
		{crc32c, string(sdk.CRC32C), func() hash.Hash { return crc32.New(castagnoli) }},
		{crc64nvme, "crc64nvme", func() hash.Hash { return crc64.New(nvme) }},
		{crc, "crc32", func() hash.Hash { return crc32.NewIEEE() }},
		{sha, string(sdk.SHA256), sha256.New},
	} {
		if c.value == nil {
			continue
		}
		// What is not of the right length is of no kind that this program knows, such as a composite of an old store: "value-3".
		want, err := base64.StdEncoding.DecodeString(*c.value)
		if err == nil && len(want) == c.new().Size() {
			return &checksum{name: c.name, want: want, new: c.new}
		}
	}
	return nil
}

func (c *checksum) hex() string { return hex.EncodeToString(c.want) }

// base64 is as the protocol writes it.
func (c *checksum) base64() string { return base64.StdEncoding.EncodeToString(c.want) }

// check returns a reader that compares what was read before it says that the end is reached. It is r itself for nil.
func (c *checksum) check(r io.ReadCloser) io.ReadCloser {
	if c == nil {
		return r
	}
	return &checkedReader{ReadCloser: r, checksum: c, sum: c.new()}
}

type checkedReader struct {
	io.ReadCloser
	checksum *checksum
	sum      hash.Hash
}

func (r *checkedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.sum.Write(p[:n])
	if err == io.EOF {
		if got := r.sum.Sum(nil); !bytes.Equal(got, r.checksum.want) {
			return n, sdk.Errorf(sdk.Corrupt, "%s is %x, the store has %x", r.checksum.name, got, r.checksum.want)
		}
	}
	return n, err
}

// base64CRC is a CRC-32C as the protocol writes it.
func base64CRC(sum uint32) string {
	return base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

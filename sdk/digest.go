package sdk

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"slices"
	"strings"
)

// Algorithm names a checksum.
type Algorithm string

// The algorithms.
const (
	CRC32C Algorithm = "crc32c" // Castagnoli, big endian
	SHA256 Algorithm = "sha256"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Algorithms lists those that this SDK computes.
func Algorithms() []Algorithm { return []Algorithm{CRC32C, SHA256} }

// Digests are checksums by algorithm.
type Digests map[Algorithm][]byte

// Hex returns one as hexadecimal digits, "" if it is not there.
func (d Digests) Hex(a Algorithm) string { return hex.EncodeToString(d[a]) }

// Compare returns an Error with code Corrupt if d and other have different values for an algorithm that both have.
func (d Digests) Compare(other Digests) error {
	for _, a := range Algorithms() {
		x, y := d[a], other[a]
		if x != nil && y != nil && !bytes.Equal(x, y) {
			return Errorf(Corrupt, "%s is %x, announced %x", a, x, y)
		}
	}
	return nil
}

// String lists the digests in a fixed order.
func (d Digests) String() string {
	var b strings.Builder
	for _, a := range Algorithms() {
		if v := d[a]; v != nil {
			fmt.Fprintf(&b, "%s=%x ", a, v)
		}
	}
	return strings.TrimSpace(b.String())
}

// Digester computes several digests over the same bytes, and can be stored halfway. The zero value computes none.
type Digester struct {
	hashes []namedHash
	size   int64
}

type namedHash struct {
	algorithm Algorithm
	hash.Hash
}

// NewDigester returns a Digester for those of the algorithms that are known.
func NewDigester(algorithms ...Algorithm) *Digester {
	d := &Digester{}
	for i, a := range algorithms {
		if slices.Contains(algorithms[:i], a) {
			continue
		}
		switch a {
		case CRC32C:
			d.hashes = append(d.hashes, namedHash{a, crc32.New(castagnoli)})
		case SHA256:
			d.hashes = append(d.hashes, namedHash{a, sha256.New()})
		}
	}
	return d
}

func (d *Digester) algorithms() []Algorithm {
	var out []Algorithm
	for _, h := range d.hashes {
		out = append(out, h.algorithm)
	}
	return out
}

// Write adds bytes. It never fails.
func (d *Digester) Write(p []byte) (int, error) {
	d.hash(p)
	d.size += int64(len(p))
	return len(p), nil
}

// hash adds bytes that Size does not count.
func (d *Digester) hash(p []byte) {
	for i := range d.hashes {
		d.hashes[i].Write(p)
	}
}

// Size is the number of bytes added.
func (d *Digester) Size() int64 { return d.size }

// Sum returns the digests of what was added so far.
func (d *Digester) Sum() Digests {
	out := make(Digests, len(d.hashes))
	for _, h := range d.hashes {
		out[h.algorithm] = h.Sum(nil)
	}
	return out
}

// DigestState is a Digester put to rest.
type DigestState struct {
	Size   int64                `json:"size"`
	States map[Algorithm][]byte `json:"states,omitempty"`
}

// State returns the digester's state.
func (d *Digester) State() DigestState {
	s := DigestState{Size: d.size, States: map[Algorithm][]byte{}}
	for _, h := range d.hashes {
		state, err := h.Hash.(encoding.BinaryMarshaler).MarshalBinary()
		if err == nil {
			s.States[h.algorithm] = state
		}
	}
	return s
}

// Digester returns a digester that goes on from the state. Its algorithms are those of the state.
func (s DigestState) Digester() (*Digester, error) {
	algorithms := make([]Algorithm, 0, len(s.States))
	for a := range s.States {
		algorithms = append(algorithms, a)
	}
	slices.Sort(algorithms)
	d := NewDigester(algorithms...)
	d.size = s.Size
	for _, h := range d.hashes {
		if err := h.Hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.States[h.algorithm]); err != nil {
			return nil, fmt.Errorf("state of %s: %w", h.algorithm, err)
		}
	}
	return d, nil
}

package main

import (
	"encoding/binary"
	"math/rand/v2"
)

const (
	pageSize  = 4 << 10
	blockSize = 1 << 20
)

// content is endless and can be made from any offset on, at about the speed of copying memory: a random block over and over, with
// the number of the page in the first 8 bytes of each page. A page in a wrong place is so never unnoticed.
type content struct{ block []byte }

// newContent returns the content of a part.
func newContent(seed, part int64) *content {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:8], uint64(seed))
	binary.BigEndian.PutUint64(key[8:], uint64(part))
	c := &content{block: make([]byte, blockSize)}
	rand.NewChaCha8(key).Read(c.block)
	return c
}

// fill makes the bytes from offset on.
func (c *content) fill(b []byte, offset int64) {
	for len(b) > 0 {
		inPage := offset % pageSize
		n := min(int64(len(b)), pageSize-inPage)
		inBlock := offset % blockSize
		copy(b[:n], c.block[inBlock:inBlock+n])
		if inPage < 8 {
			var number [8]byte
			binary.BigEndian.PutUint64(number[:], uint64(offset/pageSize))
			copy(b[:n], number[inPage:])
		}
		b, offset = b[n:], offset+n
	}
}

// record makes the record with that number: the number in 8 bytes, and random bytes after it.
func (c *content) record(b []byte, number int64) {
	copy(b, c.block[number%(blockSize-maxRecordSize):])
	binary.BigEndian.PutUint64(b, uint64(number))
}

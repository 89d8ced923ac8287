package flow

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Sum adds a part to a flow's digest, or takes out one that was added before: the digest is the exclusive or, over all parts, of the
// SHA-256 of name, size and CRC-32C. It finds mistakes, not forgeries; each part has its own digests.
func Sum(digest []byte, p Part) []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%x", p.Name, p.Size, p.Digests[sdk.CRC32C]))
	if len(digest) != len(h) {
		return h[:]
	}
	sum := make([]byte, len(h))
	subtle.XORBytes(sum, digest, h[:])
	return sum
}

// count adds a part to totals and returns the digest with it, in place of old if that is not nil.
func count(totals *sdk.Totals, digest []byte, p Part, old *Part) []byte {
	if old != nil {
		totals.Bytes -= old.Size
		totals.Records -= old.Records
		totals.Parts--
		digest = Sum(digest, *old)
	}
	totals.Bytes += p.Size
	totals.Records += p.Records
	totals.Parts++
	return Sum(digest, p)
}

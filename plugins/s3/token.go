package main

import (
	"bytes"
	"encoding/json"

	"github.com/towpath-dataplane/towpath/sdk"
)

// token is what a checkpoint inside a part carries: everything that is needed to go on there.
type token struct {
	// Nonce is of the attempt to write the part. Its objects carry it.
	Nonce string `json:"nonce"`
	// Upload is the id of the multipart upload, "" if none was begun. Parts of it are sent, Bytes in all, and Tags is a digest of their
	// ETags.
	Upload string `json:"upload,omitempty"`
	Parts  int    `json:"parts,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Tags   []byte `json:"tags,omitempty"`
	// Tail is the number of bytes behind those, which are in an object of the plugin's own.
	Tail int64 `json:"tail,omitempty"`
	// CRC is the CRC-32C of all bytes, TailCRC that of the tail.
	CRC     uint32 `json:"crc"`
	TailCRC uint32 `json:"tailCrc,omitempty"`
	// NoSums says that the upload was begun without checksums, because the store does not know those of copies.
	NoSums bool `json:"noSums,omitempty"`
	// First is the position of the first record in the tail, Records their number.
	First   int64 `json:"first,omitempty"`
	Records int64 `json:"records,omitempty"`
	// Done says that all bytes are in the object, which is finished.
	Done bool `json:"done,omitempty"`
}

func (t token) encode() ([]byte, error) { return json.Marshal(t) }

// decodeToken reads a token for a place offset bytes into a part.
func decodeToken(raw []byte, offset int64) (token, error) {
	var t token
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	wrong := sdk.Errorf(sdk.Invalid, "this is not a resume token of this sink")
	if err := d.Decode(&t); err != nil || d.More() {
		return token{}, wrong
	}
	switch {
	case !isNonce(t.Nonce) || !t.inBounds():
		return token{}, wrong
	case offset >= 0 && t.Bytes+t.Tail != offset:
		return token{}, sdk.Errorf(sdk.Invalid, "the resume token is for another place")
	}
	return t, nil
}

func (t token) inBounds() bool {
	if t.Parts < 0 || t.Parts > maxParts || t.Bytes < 0 || t.Tail < 0 || t.Tail > maxPartSize || t.First < 0 || t.Records < 0 {
		return false
	}
	if t.Done {
		return t.Upload == "" && t.Parts == 0 && t.Tail == 0
	}
	if t.Parts > 0 {
		return t.Upload != "" && t.Bytes >= int64(t.Parts)*minPartSize
	}
	return t.Bytes == 0
}

// isNonce reports whether s is what newNonce returns. It becomes part of keys.
func isNonce(s string) bool {
	if len(s) != 2*nonceSize {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

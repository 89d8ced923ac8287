package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

const (
	familySize     = 16 // newID
	generationSize = 4
	// maxRefresh is the most bytes that are looked at of a refresh token. Ours have 70.
	maxRefresh = 128
)

// refreshToken returns the refresh token of a family's generation for a client: both, and a code that nobody else can make
// (HMAC-SHA256). So a token need not be stored, can be made again after its answer was lost, and one that is forged, or brought by
// another client, costs nobody a look-up.
func (k *Key) refreshToken(family string, generation uint32, client string) string {
	raw, err := base64.RawURLEncoding.DecodeString(family)
	if err != nil || len(raw) != familySize {
		panic("token: the id of a family is not one of ours")
	}
	raw = binary.BigEndian.AppendUint32(raw, generation)
	return base64url(append(raw, k.refreshCode(raw, client)...))
}

// openRefresh returns what a refresh token is made of, if it is one of this client.
func (k *Key) openRefresh(raw, client string) (family string, generation uint32, ok bool) {
	if len(raw) > maxRefresh {
		return "", 0, false
	}
	b, err := base64.RawURLEncoding.DecodeString(raw)
	if err != nil || len(b) != familySize+generationSize+sha256.Size || base64url(b) != raw { // one spelling is ours
		return "", 0, false
	}
	handle, code := b[:familySize+generationSize], b[familySize+generationSize:]
	if !hmac.Equal(code, k.refreshCode(handle, client)) {
		return "", 0, false
	}
	return base64url(handle[:familySize]), binary.BigEndian.Uint32(handle[familySize:]), true
}

func (k *Key) refreshCode(handle []byte, client string) []byte {
	code := hmac.New(sha256.New, k.refresh)
	code.Write(handle)
	code.Write([]byte(client))
	return code.Sum(nil)
}

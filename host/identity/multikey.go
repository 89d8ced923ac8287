package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// maxMultibase is the most characters of a key in multibase. One for RSA of 8192 bits has 1430.
const maxMultibase = 2 << 10

// Multicodecs of public keys.
const (
	codecEd25519 = 0xed
	codecP256    = 0x1200
	codecP384    = 0x1201
	codecP521    = 0x1202
	codecRSA     = 0x1205
)

// parseMultikey reads a public key that is written as did:key and publicKeyMultibase do: multibase of a multicodec and the key's
// bytes. The error is errUnusable if it is a key of another kind.
func parseMultikey(s string) (crypto.PublicKey, error) {
	if !strings.HasPrefix(s, "z") || len(s) > maxMultibase {
		return nil, errors.New("it is not base58btc in multibase")
	}
	raw, err := decodeBase58(s[1:])
	if err != nil {
		return nil, err
	}
	codec, n := binary.Uvarint(raw)
	if n <= 0 {
		return nil, errors.New("it does not begin with a multicodec")
	}
	key, err := parseKeyBytes(codec, raw[n:])
	if err != nil {
		return nil, err
	}
	return key, checkKey(key)
}

func parseKeyBytes(codec uint64, raw []byte) (crypto.PublicKey, error) {
	switch codec {
	case codecEd25519:
		if len(raw) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("an Ed25519 key has %d bytes, this one %d", ed25519.PublicKeySize, len(raw))
		}
		return ed25519.PublicKey(bytes.Clone(raw)), nil
	case codecP256:
		return parsePoint(elliptic.P256(), raw)
	case codecP384:
		return parsePoint(elliptic.P384(), raw)
	case codecP521:
		return parsePoint(elliptic.P521(), raw)
	case codecRSA:
		key, err := x509.ParsePKCS1PublicKey(raw)
		if err != nil {
			return nil, errors.New("it is no RSA key in PKCS #1")
		}
		return key, nil
	}
	return nil, errUnusable
}

// parsePoint reads a compressed point.
func parsePoint(curve elliptic.Curve, raw []byte) (crypto.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(curve, raw)
	if x == nil {
		return nil, errors.New("it is no compressed point on its curve")
	}
	size := len(raw) - 1
	point := make([]byte, 1+2*size)
	point[0] = 4
	x.FillBytes(point[1 : 1+size])
	y.FillBytes(point[1+size:])
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, errors.New("it is no point on its curve")
	}
	return key, nil
}

const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// decodeBase58 reads base58 with Bitcoin's alphabet. It takes time that grows with the square of the length.
func decodeBase58(s string) ([]byte, error) {
	value, radix := new(big.Int), big.NewInt(int64(len(base58)))
	for i := range len(s) {
		digit := strings.IndexByte(base58, s[i])
		if digit < 0 {
			return nil, errors.New("it has a character that base58 does not")
		}
		value.Mul(value, radix).Add(value, big.NewInt(int64(digit)))
	}
	// Each leading digit for zero is a whole zero byte.
	zeros := len(s) - len(strings.TrimLeft(s, base58[:1]))
	return append(make([]byte, zeros), value.Bytes()...), nil
}

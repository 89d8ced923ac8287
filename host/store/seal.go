package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/towpath-dataplane/towpath/host/keyfile"
	"github.com/towpath-dataplane/towpath/sdk"
)

// A sealed value is a version, a salt, and what AES-256-GCM with a random nonce makes of the content. Every process that opens the
// store takes a salt, and with it derives from the store's key one of its own: with one key for all time, nonces of 96 bits would
// begin to repeat after some 2^32 values.
const (
	sealVersion = 1
	saltSize    = 16
	headerSize  = 1 + saltSize
)

// LoadKey returns the key in the file at path, 32 bytes. It makes key and file if there is no file, and refuses one that others than
// its owner can read or write.
func LoadKey(path string) (key [32]byte, err error) {
	content, err := keyfile.Load(path, func() ([]byte, error) {
		rand.Read(key[:]) // never fails
		return key[:], nil
	})
	if err != nil {
		return [32]byte{}, fmt.Errorf("load store key: %w", err)
	}
	if len(content) != len(key) {
		return [32]byte{}, fmt.Errorf("load store key %s: it has %d bytes, want %d", path, len(content), len(key))
	}
	return [32]byte(content), nil
}

// sealer seals what is secret. The place of a value is its column and the key of its row; it opens nowhere else.
type sealer struct {
	key    [32]byte
	header [headerSize]byte
	own    cipher.AEAD

	mu    sync.RWMutex                     // guards aeads
	aeads map[[headerSize]byte]cipher.AEAD // by header; one for each start of a process that left a value which was read
}

func newSealer(key [32]byte) (*sealer, error) {
	s := &sealer{key: key, header: [headerSize]byte{sealVersion}, aeads: map[[headerSize]byte]cipher.AEAD{}}
	rand.Read(s.header[1:]) // never fails
	var err error
	s.own, err = s.aead(s.header)
	return s, err
}

func (s *sealer) seal(plain []byte, place ...string) []byte {
	sealed := make([]byte, headerSize, headerSize+len(plain)+s.own.Overhead())
	copy(sealed, s.header[:])
	return s.own.Seal(sealed, nil, plain, additional(place))
}

// open returns the content of a sealed value. The error wraps ErrCorrupt and says nothing of the content.
func (s *sealer) open(sealed []byte, place ...string) ([]byte, error) {
	if len(sealed) < headerSize || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%w: %s is not a sealed value", ErrCorrupt, place[0])
	}
	header := [headerSize]byte(sealed)
	aead, err := s.aead(header)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", place[0], err)
	}
	plain, err := aead.Open(nil, nil, sealed[headerSize:], additional(place))
	if err != nil {
		return nil, fmt.Errorf("%w: %s does not open", ErrCorrupt, place[0])
	}
	s.remember(header, aead)
	return plain, nil
}

// aead returns what seals and opens values with a header.
func (s *sealer) aead(header [headerSize]byte) (cipher.AEAD, error) {
	s.mu.RLock()
	known := s.aeads[header]
	s.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	key, err := hkdf.Key(sha256.New, s.key[:], header[1:], "towpath sealed value", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// remember keeps an aead that has opened something, which those of damaged values do not.
func (s *sealer) remember(header [headerSize]byte, aead cipher.AEAD) {
	s.mu.RLock()
	_, known := s.aeads[header]
	s.mu.RUnlock()
	if known {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aeads[header] = aead
}

// additional joins the strings of a place so that different places never look alike.
func additional(place []string) []byte {
	var b []byte
	for _, s := range place {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// sealAddress seals a data address; nil stays nil.
func (s *sealer) sealAddress(a *sdk.DataAddress, place ...string) ([]byte, error) {
	if a == nil {
		return nil, nil
	}
	return s.sealJSON(a, place...)
}

func (s *sealer) openAddress(sealed []byte, place ...string) (*sdk.DataAddress, error) {
	if sealed == nil {
		return nil, nil
	}
	a := new(sdk.DataAddress)
	return a, s.openJSON(sealed, a, place...)
}

func (s *sealer) sealJSON(v any, place ...string) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return s.seal(plain, place...), nil
}

func (s *sealer) openJSON(sealed []byte, into any, place ...string) error {
	plain, err := s.open(sealed, place...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(plain, into); err != nil {
		return fmt.Errorf("%w: %s has an unknown form", ErrCorrupt, place[0])
	}
	return nil
}

// checkKey compares the key with the one that sealed the database, or marks a new database with it.
func checkKey(ctx context.Context, conn *sql.Conn, s *sealer) error {
	const name, content = "store", "towpath"
	var sealed []byte
	err := conn.QueryRowContext(ctx, `SELECT sealed FROM keys WHERE name = ?`, name).Scan(&sealed)
	if err == nil {
		if plain, err := s.open(sealed, "keys.sealed", name); err != nil || string(plain) != content {
			return ErrKey
		}
		return nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read key check: %w", err)
	}
	sealed = s.seal([]byte(content), "keys.sealed", name)
	if _, err := conn.ExecContext(ctx, `INSERT INTO keys (name, sealed) VALUES (?, ?)`, name, sealed); err != nil {
		return fmt.Errorf("write key check: %w", err)
	}
	return nil
}

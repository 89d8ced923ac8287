package pluginhost

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"aead.dev/minisign"
)

// signatureSuffix is what the name of a signature's file has behind that of the file it is for.
const signatureSuffix = ".minisig"

// maxSignature is more than any signature file has.
const maxSignature = 8 << 10

// ParsePublisherKey reads the public key of a publisher, as minisign prints it: RWQ…
func ParsePublisherKey(s string) (minisign.PublicKey, error) {
	var key minisign.PublicKey
	if err := key.UnmarshalText([]byte(s)); err != nil {
		return key, errors.New("it is not the public key of minisign, which begins with RW and has 56 letters")
	}
	return key, nil
}

// publishers are the keys of those whose signatures count, by name.
type publishers map[string]minisign.PublicKey

func newPublishers(keys map[string]string) (publishers, error) {
	out := publishers{}
	for name, text := range keys {
		key, err := ParsePublisherKey(text)
		if err != nil {
			return nil, fmt.Errorf("publisher %s: %w", name, err)
		}
		out[name] = key
	}
	return out, nil
}

// only returns the one with a name, or all for "".
func (p publishers) only(name string) publishers {
	if name == "" {
		return p
	}
	if key, ok := p[name]; ok {
		return publishers{name: key}
	}
	return nil
}

// signature is who has signed a file.
type signature struct {
	from    publishers // whose signatures count
	text    string     // what the file beside it says. "": nothing, or nobody asks for a signature
	by      string     // the publisher who has signed it
	missing error      // why there is none; nil too if nobody asks
}

// signature is what lies beside the file at path, unless nobody asks for it. publisher is who must have signed it.
func (p publishers) signature(path, publisher string, t Trust) signature {
	s := signature{from: p.only(publisher)}
	if publisher == "" && t != TrustSigned {
		return s
	}
	text, err := readSignature(path + signatureSuffix)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.missing = fmt.Errorf("it is not signed: there is no %s%s", path, signatureSuffix)
	case err != nil:
		s.missing = fmt.Errorf("its signature cannot be read: %s", reason(err))
	case len(text) == 0:
		s.missing = errNoSignature
	default:
		s.text = string(text)
	}
	return s
}

var errNoSignature = errors.New("its signature is not one of minisign")

// check finds out who has signed what content has read.
func (s *signature) check(content *minisign.Reader) {
	s.by, s.missing = s.from.signer([]byte(s.text), content)
}

// signer returns who of them has signed what content has read.
func (p publishers) signer(text []byte, content *minisign.Reader) (string, error) {
	var s minisign.Signature
	if err := s.UnmarshalText(text); err != nil {
		return "", errNoSignature
	}
	if s.Algorithm != minisign.HashEdDSA {
		return "", errors.New("its signature is of the old kind, without a hash: minisign -H makes the other")
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if p[name].ID() != s.KeyID {
			continue
		}
		if content.Verify(p[name], text) {
			return name, nil
		}
		return "", fmt.Errorf("its signature does not fit: the file is not the one that publisher %q has signed", name)
	}
	return "", fmt.Errorf("it is signed with the key %016X, which is none of the publishers %s", s.KeyID,
		slices.Sorted(maps.Keys(p)))
}

func readSignature(path string) ([]byte, error) {
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSignature+1))
	if err == nil && len(text) > maxSignature {
		err = errors.New("it is too long")
	}
	return text, err
}

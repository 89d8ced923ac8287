package identity

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// maxDID is the most bytes of a DID. A did:jwk of a large RSA key has some two thousand.
const maxDID = 4 << 10

var (
	didForm  = regexp.MustCompile(`^did:[a-z0-9]+:(?:[A-Za-z0-9._:-]|%[0-9A-Fa-f]{2})*(?:[A-Za-z0-9._-]|%[0-9A-Fa-f]{2})$`)
	hostForm = regexp.MustCompile(`^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*(?::[0-9]+)?$`)
)

// IsDID reports whether s has the form of a DID, of whatever method, without path, query and fragment.
func IsDID(s string) bool { return len(s) <= maxDID && didForm.MatchString(s) }

// CheckDID returns nil if s is a DID that a Resolver can resolve: a well-formed did:web, did:jwk or did:key.
func CheckDID(s string) error {
	var err error
	switch method(s) {
	case "web":
		_, err = webAddress(s)
	case "jwk", "key":
		_, err = ownKeys(s)
	case "":
		err = errors.New("it is no DID")
	default:
		err = errors.New("its method is not one of web, jwk, key")
	}
	return err
}

// method returns the method of a DID, "" if s is none.
func method(s string) string {
	if !IsDID(s) {
		return ""
	}
	name, _, _ := strings.Cut(s[len("did:"):], ":")
	return name
}

// specific returns what follows the method of a DID.
func specific(did string) string {
	_, id, _ := strings.Cut(strings.TrimPrefix(did, "did:"), ":")
	return id
}

// webAddress returns where the document of a did:web is, without the scheme.
func webAddress(did string) (*url.URL, error) {
	segments := strings.Split(specific(did), ":")
	for i, segment := range segments {
		decoded, err := url.PathUnescape(segment)
		if err != nil {
			return nil, errors.New("its escapes are malformed")
		}
		segments[i] = decoded
	}
	host, path := segments[0], segments[1:]
	if err := checkHost(host); err != nil {
		return nil, err
	}
	for _, segment := range path {
		if segment == "" || segment == "." || segment == ".." || strings.ContainsFunc(segment, notInSegment) {
			return nil, errors.New("its path has a segment that could lead elsewhere")
		}
	}
	if len(path) == 0 {
		path = []string{".well-known"}
	}
	return &url.URL{Host: host, Path: "/" + strings.Join(path, "/") + "/did.json"}, nil
}

func checkHost(host string) error {
	if !hostForm.MatchString(host) {
		return errors.New("its host is malformed")
	}
	if _, port, ok := strings.Cut(host, ":"); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("its port is out of range")
		}
	}
	return nil
}

// notInSegment reports whether some server could take a character for more than a part of a name.
func notInSegment(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\%?#;`, r) }

// ownKeys returns the key of a DID that is its own document: did:jwk or did:key.
func ownKeys(did string) (StaticKeys, error) {
	var key publicKey
	var err error
	if method(did) == "key" {
		key.key, err = parseMultikey(specific(did))
		key.id = did + "#" + specific(did)
	} else {
		var raw []byte
		if raw, err = base64.RawURLEncoding.Strict().DecodeString(specific(did)); err != nil {
			return nil, errors.New("its key is not base64url")
		}
		key, err = parseJWK(raw)
		key.id = did + "#0"
	}
	if err != nil {
		return nil, fmt.Errorf("its key: %w", err)
	}
	return StaticKeys{key}, nil
}

package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// verificationMethod is a key in a DID document.
type verificationMethod struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Controller string          `json:"controller"`
	JWK        json.RawMessage `json:"publicKeyJwk,omitempty"`
	Multibase  string          `json:"publicKeyMultibase,omitempty"`
}

// parseDocument returns the keys in the DID document of a DID: those that it controls itself and that signatures can be verified
// with. A method that cannot be read is left out.
func parseDocument(did string, raw []byte) (StaticKeys, error) {
	var d struct {
		ID                 string            `json:"id"`
		VerificationMethod []json.RawMessage `json:"verificationMethod"`
		// Methods may also be written where they are used.
		Authentication  []json.RawMessage `json:"authentication"`
		AssertionMethod []json.RawMessage `json:"assertionMethod"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, errors.New("what is there is no DID document")
	}
	if d.ID != did {
		return nil, errors.New("the DID document is that of another DID")
	}
	var keys StaticKeys
	for _, list := range [][]json.RawMessage{d.VerificationMethod, d.Authentication, d.AssertionMethod} {
		for _, entry := range list {
			if key, ok := parseMethod(did, entry); ok {
				keys = append(keys, key)
			}
		}
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("the DID document has %d keys; at most %d are read", len(keys), maxKeys)
	}
	return keys, nil
}

// parseMethod returns false for a method that is not the DID's own, is a mere reference, or cannot be read.
func parseMethod(did string, raw []byte) (key publicKey, ok bool) {
	var m verificationMethod
	if err := json.Unmarshal(raw, &m); err != nil {
		return publicKey{}, false
	}
	id := wholeID(did, m.ID)
	if !strings.HasPrefix(id, did+"#") || m.Controller != "" && m.Controller != did {
		return publicKey{}, false
	}
	var err error
	switch {
	case m.JWK != nil && m.Multibase == "":
		key, err = parseJWK(m.JWK)
	case m.JWK == nil && m.Multibase != "":
		key.key, err = parseMultikey(m.Multibase)
	default:
		return publicKey{}, false
	}
	key.id = id
	return key, err == nil
}

// wholeID returns the whole id of a key that is given whole, from the '#' on, or by its mere name.
func wholeID(did, id string) string {
	switch {
	case id == "" || strings.HasPrefix(id, "did:"):
		return id
	case strings.HasPrefix(id, "#"):
		return did + id
	}
	return did + "#" + id
}

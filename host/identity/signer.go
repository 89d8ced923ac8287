package identity

// Signer signs tokens with a key of one of our own DIDs. It is safe for concurrent use.
type Signer struct{}

// LoadSigner returns a Signer with the private key in the file at path (PKCS #8, PEM): P-256, P-384, Ed25519, or RSA of 2048 bits and
// more. It refuses a file that others than its owner can read or write. For a did:web it makes a P-256 key if there is no file.
//
// keyID is the id of the key in the DID's document, whole or from the '#' on. "": #key-1 for a did:web, otherwise the one the DID
// implies.
func LoadSigner(path, did, keyID string) (*Signer, error) { panic("not there yet") }

// DID is whose key it is.
func (s *Signer) DID() string { panic("not there yet") }

// KeyID is the whole id of the key: the DID, '#' and a name.
func (s *Signer) KeyID() string { panic("not there yet") }

// String returns the key's id.
func (s *Signer) String() string { panic("not there yet") }

// Sign returns a token with these claims and no others.
func (s *Signer) Sign(claims map[string]any) (string, error) { panic("not there yet") }

// Document returns a DID document with the key, to be served as a did:web demands.
func (s *Signer) Document() []byte { panic("not there yet") }

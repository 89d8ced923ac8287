package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// DefaultContext is the participant context of what names no other. It exists without a block.
const DefaultContext = "default"

// ParticipantContext is a participant_context block: one of the participants for which the data plane acts.
type ParticipantContext struct {
	Name string
	// DID is who the participant is towards counterparties. "": it cannot renew tokens, and issues none that can be renewed.
	DID string
	// Key is the PEM file of the private key that signs for the DID. It could be used when it was loaded; if it was not there, it is to
	// be made. "" without a DID.
	Key string
	// KeyID is the DID URL of the key: the DID, '#', and a fragment. "" without a DID.
	KeyID string
	// RegistrationKey is what a control plane has to bring to register itself in this context. None: no control plane can.
	RegistrationKey Secret
	// Limits are those of all its flows together. Its weight is in comparison to other participant contexts.
	Limits Limit

	Range hcl.Range // zero for DefaultContext without a block

	didAt, keyAt, registrationKeyAt hcl.Range // zero if not set
}

func (l *loader) participantContext(b *hcl.Block) ParticipantContext {
	f := l.open(b, participantContextSchema)
	c := ParticipantContext{Name: l.label(b, checkID), Range: b.DefRange}
	c.didAt, c.keyAt, c.registrationKeyAt = f.whereSet("did"), f.whereSet("key"), f.whereSet("registration_key")
	hasDID := set(f, "did", &c.DID, did)
	set(f, "key", &c.Key, f.path)
	f.together("did", nil, "key", "key_id")
	if hasDID {
		c.KeyID = defaultKeyID(c.DID)
		set(f, "key_id", &c.KeyID, keyID(c.DID))
	}
	setSecret(f, "registration_key", &c.RegistrationKey, bearerToken)
	l.ownLimits(f, &c.Limits)
	return c
}

// defaultKeyID is the only possible one where the method says so.
func defaultKeyID(did string) string {
	switch {
	case strings.HasPrefix(did, "did:key:"):
		return did + "#" + strings.TrimPrefix(did, "did:key:")
	case strings.HasPrefix(did, "did:jwk:"):
		return did + "#0"
	default:
		return did + "#key-1"
	}
}

// holdsKey reports whether a DID is made of its key.
func holdsKey(did string) bool {
	return strings.HasPrefix(did, "did:key:") || strings.HasPrefix(did, "did:jwk:")
}

// keyID reads the id of one of a DID's keys, which may leave the DID out, and adds it.
func keyID(did string) func(cty.Value) (string, error) {
	return func(v cty.Value) (string, error) {
		s, err := nonEmpty(v)
		if err != nil {
			return "", err
		}
		owner, fragment, _ := strings.Cut(s, "#")
		if fragment == "" || strings.ContainsAny(fragment, "# ") || owner != "" && owner != did {
			return "", fmt.Errorf("%q is not the id of a key of %s, such as %q", s, did, defaultKeyID(did))
		}
		return did + "#" + fragment, nil
	}
}

// finishContexts checks the participant contexts against each other, adds the one that exists without a block, and settles their keys.
func (l *loader) finishContexts() {
	c := l.config
	for i := range c.ParticipantContexts {
		l.signingKey(&c.ParticipantContexts[i])
		for _, earlier := range c.ParticipantContexts[:i] {
			l.distinctContexts(earlier, c.ParticipantContexts[i])
		}
	}
	if _, declared := c.context(DefaultContext); !declared {
		c.ParticipantContexts = append([]ParticipantContext{{Name: DefaultContext}}, c.ParticipantContexts...)
	}
}

func (l *loader) distinctContexts(earlier, later ParticipantContext) {
	if later.DID != "" && later.DID == earlier.DID {
		l.report(later.didAt, "Same DID twice", "It is that of the participant context %q already.", earlier.Name)
	}
	if !later.RegistrationKey.IsZero() && later.RegistrationKey.Equal(earlier.RegistrationKey) {
		l.report(later.registrationKeyAt, "Same key twice",
			"It is that of the participant context %q already, so it would not tell in which of them a control plane registers.", earlier.Name)
	}
}

// signingKey settles where the key of a DID is, and checks it if it is there.
func (l *loader) signingKey(c *ParticipantContext) {
	if c.DID == "" {
		return
	}
	at := c.keyAt
	if c.Key == "" {
		c.Key, at = filepath.Join(l.config.DataPlane.DataDir, defaultKeyDir, url.PathEscape(c.Name)+".pem"), c.didAt
	}
	if _, err := os.Stat(c.Key); errors.Is(err, fs.ErrNotExist) {
		if holdsKey(c.DID) {
			l.report(at, "Missing key", "%s: it is not there, and cannot be made, since the DID is made of it.", c.Key)
		}
		return
	}
	if err := checkSigningKey(c.Key); err != nil {
		l.report(at, "Unsuitable key", "%s: %v.", c.Key, err)
	}
}

// context finds a participant context.
func (c *Config) context(name string) (ParticipantContext, bool) {
	for _, p := range c.ParticipantContexts {
		if p.Name == name {
			return p, true
		}
	}
	return ParticipantContext{}, false
}

// knownContext reports whether there is a participant context, and says so if there is none.
func (l *loader) knownContext(name string, at hcl.Range) bool {
	if _, ok := l.config.context(name); ok {
		return true
	}
	names := make([]string, len(l.config.ParticipantContexts))
	for i, c := range l.config.ParticipantContexts {
		names[i] = c.Name
	}
	l.report(at, "Unknown participant context", "There is no participant_context %q. There are: %s.%s",
		name, list(names), didYouMean(name, names))
	return false
}

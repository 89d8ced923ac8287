package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"
)

// TLS names the PEM files of a listener. Certificate and Key were a valid pair when they were loaded.
type TLS struct {
	Certificate string
	Key         string
	// ClientCA, if not "", has the certificates of which one must have signed that of a client (mutual TLS). It had at least one.
	ClientCA string
}

// ClientTLS names the PEM files for calling a control plane.
type ClientTLS struct {
	// CA has the certificates that are trusted in place of those of the system. "": those of the system.
	CA string
	// Certificate and Key are what the host shows of itself; both or neither are "".
	Certificate string
	Key         string
}

func (l *loader) tls(b *hcl.Block) *TLS {
	f := l.open(b, tlsSchema)
	t := &TLS{}
	l.pair(f, &t.Certificate, &t.Key)
	l.certificates(f, "client_ca", &t.ClientCA)
	return t
}

func (l *loader) clientTLS(b *hcl.Block) *ClientTLS {
	f := l.open(b, clientTLSSchema)
	t := &ClientTLS{}
	l.certificates(f, "ca", &t.CA)
	l.pair(f, &t.Certificate, &t.Key)
	f.together("certificate", []string{"key"})
	if f.valid && len(f.attrs) == 0 {
		l.report(b.DefRange, "Empty tls", "It needs ca, or certificate and key, or all of them.")
	}
	return t
}

// pair reads a certificate with its key.
func (l *loader) pair(f fields, certificate, key *string) {
	hasCertificate := set(f, "certificate", certificate, f.path)
	hasKey := set(f, "key", key, f.path)
	if hasCertificate && hasKey {
		if _, err := tls.LoadX509KeyPair(*certificate, *key); err != nil {
			l.report(f.at("certificate"), "Unsuitable certificate or key", "%v.", err)
		}
	}
}

// certificates reads the name of a file of certificates that are trusted.
func (l *loader) certificates(f fields, name string, into *string) {
	if !set(f, name, into, f.path) {
		return
	}
	if err := checkCertificates(*into); err != nil {
		l.report(f.at(name), "Unsuitable certificates", "%s: %v.", *into, err)
	}
}

func checkCertificates(name string) error {
	text, err := readFile(name, false)
	if err != nil {
		return err
	}
	found := 0
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		found++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d: %w", found, err)
		}
	}
	if found == 0 {
		return errors.New("it has no certificate in PEM")
	}
	return nil
}

// checkSigningKey says whether a file has a private key that can sign for a DID.
func checkSigningKey(name string) error {
	text, err := readFile(name, true)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return errors.New(`it has no "PRIVATE KEY" in PEM (PKCS #8)`)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return errors.New("its private key cannot be read")
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case ed25519.PrivateKey:
		return nil
	case *rsa.PrivateKey:
		if k.N.BitLen() >= 2048 {
			return nil
		}
	}
	return errors.New("its key is not of P-256, P-384, Ed25519, or RSA of at least 2048 bits")
}

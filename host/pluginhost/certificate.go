package pluginhost

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// identity is what a host shows to its plugins under mutual TLS. go-plugin would make one for each launch, with a key on P-521, which costs
// both sides more than the rest of a launch; this one is made once, and its key never leaves the host.
type identity struct {
	certificate tls.Certificate
	pem         string
}

// clientCertEnv is where plugins find the certificate that they are to trust. To bring their own is how they answer.
const clientCertEnv = "PLUGIN_CLIENT_CERT"

// newIdentity makes one as go-plugin's plugins expect it: its own authority, for localhost, and not older than a clock can be wrong.
func newIdentity() (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for plugins: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("make a certificate for plugins: %w", err)
	}
	template := &x509.Certificate{
		Subject:      pkix.Name{CommonName: "localhost", Organization: []string{"Towpath"}},
		DNSNames:     []string{"localhost"},
		SerialNumber: serial,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(30, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for plugins: %w", err)
	}
	return &identity{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}, nil
}

// config is for one launch. go-plugin adds the certificate that the plugin answers with, and trusts no other.
func (i *identity) config() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{i.certificate}, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		ServerName: "localhost", RootCAs: x509.NewCertPool(), ClientCAs: x509.NewCertPool()}
}

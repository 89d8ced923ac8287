//go:build linux

package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// authority is a certification authority that lasts as long as a test.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	roots       *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{key: newKey(t), roots: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.roots.AddCert(a.certificate)
	return a
}

// issue returns a certificate for the loopback interface, good for both ends of a connection.
func (a *authority) issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// server returns what a server needs. mutual wants clients to have a certificate too.
func (a *authority) server(t testing.TB, mutual bool) *tls.Config {
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(t, "server")}}
	if mutual {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, a.roots
	}
	return config
}

// client returns a client that trusts the authority. name is that of its certificate, "" for none.
func (a *authority) client(t testing.TB, name string) *http.Client {
	config := &tls.Config{RootCAs: a.roots}
	if name != "" {
		config.Certificates = []tls.Certificate{a.issue(t, name)}
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}, Timeout: time.Minute}
}

// write puts the authority's certificate, and one of a server and of a client with their keys, into a folder.
func (a *authority) write(t testing.TB, folder string) {
	t.Helper()
	writeFile(t, filepath.Join(folder, "ca.pem"), pemBlock("CERTIFICATE", a.certificate.Raw))
	for _, name := range []string{"server", "client"} {
		c := a.issue(t, name)
		writeFile(t, filepath.Join(folder, name+".pem"), pemBlock("CERTIFICATE", c.Certificate[0]))
		writeFile(t, filepath.Join(folder, name+".key"), pemOf(t, c.PrivateKey))
	}
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// pemOf returns a private key as PKCS#8.
func pemOf(t testing.TB, key crypto.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemBlock("PRIVATE KEY", der)
}

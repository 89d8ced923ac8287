package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towpath-dataplane/towpath/host/config"
)

// certificates are what a door proves itself with, and what it has its clients prove themselves with. They are read again when their
// files have changed; what cannot be used then is logged, and what was there before stays in use. Connections keep what they began
// with.
type certificates struct {
	files  config.TLS
	logger *slog.Logger
	now    func() time.Time

	present atomic.Pointer[tls.Config]

	mu     sync.Mutex // guards what follows, and is held while the files are read
	seen   []fs.FileInfo
	looked time.Time
}

// lookInterval is how often, at most, handshakes have the files looked at.
const lookInterval = 3 * time.Second

func loadCertificates(files config.TLS, logger *slog.Logger, now func() time.Time) (*certificates, error) {
	c := &certificates{files: files, logger: logger, now: now, looked: now()}
	c.seen = c.look()
	loaded, err := c.load()
	if err != nil {
		return nil, err
	}
	if leaf := loaded.Certificates[0].Leaf; now().After(leaf.NotAfter) {
		logger.Warn("the certificate has expired", "file", files.Certificate, "expired", leaf.NotAfter)
	}
	c.present.Store(loaded)
	return c, nil
}

// config is for a listener: every handshake gets what is in use at its time.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return c.current(), nil
	}}
}

// current returns what is in use, after a look at the files if the last one was a while ago. Handshakes that come while another one
// looks do not wait for it.
func (c *certificates) current() *tls.Config {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		if now := c.now(); now.Sub(c.looked) >= lookInterval {
			c.looked = now
			if seen := c.look(); !slices.EqualFunc(seen, c.seen, sameFile) {
				c.replace(seen)
			}
		}
	}
	return c.present.Load()
}

// reload reads the files whether they have changed or not.
func (c *certificates) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = c.now()
	c.replace(c.look())
}

// replace reads the files that were seen. A failure is not repeated, or logged again, until they change.
func (c *certificates) replace(seen []fs.FileInfo) {
	c.seen = seen
	loaded, err := c.load()
	if err == nil && c.now().After(loaded.Certificates[0].Leaf.NotAfter) {
		err = fmt.Errorf("certificate %s has expired", c.files.Certificate)
	}
	if err != nil {
		c.logger.Error("certificates are not replaced: those before stay in use", "err", err)
		return
	}
	c.present.Store(loaded)
	c.logger.Info("certificates replaced", "expires", loaded.Certificates[0].Leaf.NotAfter)
}

// look returns what tells one version of the files from another, nil for a file that is not there.
func (c *certificates) look() []fs.FileInfo {
	seen := make([]fs.FileInfo, 3)
	for i, name := range []string{c.files.Certificate, c.files.Key, c.files.ClientCA} {
		if info, err := os.Stat(name); name != "" && err == nil {
			seen[i] = info
		}
	}
	return seen
}

func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}

func (c *certificates) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate and key: %w", err)
	}
	loaded := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if c.files.ClientCA == "" {
		return loaded, nil
	}
	authorities, err := loadAuthorities(c.files.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("client authorities: %w", err)
	}
	// A session that is resumed would bring back a client whose authority is not trusted any more.
	loaded.ClientAuth, loaded.ClientCAs, loaded.SessionTicketsDisabled = tls.RequireAndVerifyClientCert, authorities, true
	return loaded, nil
}

// loadAuthorities reads the certificates of a PEM file.
func loadAuthorities(name string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	return pool, addAuthorities(pool, name)
}

func addAuthorities(pool *x509.CertPool, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	empty := true
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		pool.AddCert(certificate)
		empty = false
	}
	if empty {
		return fmt.Errorf("%s has no certificate in PEM", name)
	}
	return nil
}

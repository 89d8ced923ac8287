package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towpath-dataplane/towpath/host/config"
)

// listeners are the three doors of a host.
type listeners struct{ signaling, public, admin *door }

// door is one listener with its protocol.
type door struct {
	net.Listener
	name         string
	certificates *certificates // nil for plain HTTP
}

// listen opens all doors, or none.
func listen(cfg *config.Config, logger *slog.Logger) (_ *listeners, err error) {
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.signaling, err = open("signaling", cfg.Signaling, logger); err != nil {
		return nil, err
	}
	if l.public, err = open("public", cfg.Public, logger); err != nil {
		return nil, err
	}
	if l.admin, err = open("admin", cfg.Admin, logger); err != nil {
		return nil, err
	}
	return l, nil
}

func open(name string, c config.Listener, logger *slog.Logger) (*door, error) {
	l, err := net.Listen("tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", name, err)
	}
	if c.TLS == nil {
		return &door{Listener: l, name: name}, nil
	}
	certificates, err := loadCertificates(*c.TLS, logger.With("listener", name), time.Now)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("TLS for %s: %w", name, err)
	}
	return &door{tls.NewListener(l, certificates.config()), name, certificates}, nil
}

// reload reads the certificates of all doors again with every value of hangups, until ctx ends.
func (l *listeners) reload(ctx context.Context, hangups <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
		}
		for _, d := range []*door{l.signaling, l.public, l.admin} {
			if d.certificates != nil {
				d.certificates.reload()
			}
		}
	}
}

func (l *listeners) close() error {
	for _, d := range []*door{l.signaling, l.public, l.admin} {
		if d != nil {
			d.Close() // closed already by its server, after an orderly stop
		}
	}
	return nil
}

func (d *door) url(path string) string {
	scheme := "http"
	if d.certificates != nil {
		scheme = "https"
	}
	return scheme + "://" + d.Addr().String() + path
}

// serve answers requests until ctx ends; then it takes no new ones and waits for those it has.
func (d *door) serve(ctx context.Context, h http.Handler, logger *slog.Logger) error {
	fresh := &freshConns{conns: map[net.Conn]bool{}}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug), ConnState: fresh.note, Protocols: d.protocols()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(d) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", d.name, err)
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	fresh.close()
	if err := server.Shutdown(stopCtx); err != nil {
		server.Close()
		logger.Warn("requests were cut at the stop", "listener", d.name, "err", err)
	}
	<-served
	return nil
}

// protocols are HTTP/1.1 and HTTP/2: with TLS for clients that ask for it there, without for those that begin with it.
func (d *door) protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// freshConns are connections on which no request has come yet: clients dial ahead. A server that shuts down would wait for them.
type freshConns struct {
	any atomic.Bool // there are some: most requests come when there are none

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]bool
	closed bool
}

func (f *freshConns) note(c net.Conn, state http.ConnState) {
	if state != http.StateNew && !f.any.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(f.conns, c)
	case f.closed:
		c.Close()
	default:
		f.conns[c] = true
	}
	f.any.Store(len(f.conns) > 0)
}

func (f *freshConns) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.conns {
		c.Close()
	}
}

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/config"
)

// Every door speaks HTTP/1.1 and HTTP/2, with TLS and without, and streams both ways with the second.
func TestVersionsOfHTTP(t *testing.T) {
	files := newPEMFiles(t)
	roots := newAuthority(t, "roots")
	files.write(roots.issue("127.0.0.1", time.Hour))
	for _, tt := range []struct {
		name string
		tls  *config.TLS
		set  func(*http.Protocols)
		want string
	}{
		{"cleartext 1.1", nil, func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1"},
		{"cleartext 2 with prior knowledge", nil, func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }, "HTTP/2.0"},
		{"TLS 1.1", &config.TLS{Certificate: files.Certificate, Key: files.Key}, func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/1.1"},
		{"TLS 2", &config.TLS{Certificate: files.Certificate, Key: files.Key}, func(p *http.Protocols) { p.SetHTTP2(true) }, "HTTP/2.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := &journal{}
			d, err := open("public", config.Listener{Address: "127.0.0.1:0", TLS: tt.tls}, log.logger())
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- d.serve(ctx, http.HandlerFunc(sayVersion), log.logger()) }()

			transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: roots.pool()}}
			tt.set(transport.Protocols)
			body, writer := io.Pipe()
			go io.WriteString(writer, "x")
			res, err := (&http.Client{Transport: transport}).Post(d.url("/"), "", body)
			if err != nil {
				t.Fatal(err)
			}
			// The answer is here while the request goes on.
			got := make([]byte, len(tt.want)+2)
			if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != tt.want+" x" {
				t.Errorf("%q, %v", got, err)
			}
			writer.Close()
			if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "." {
				t.Errorf("%q, %v", rest, err)
			}
			res.Body.Close()
			stop() // with the connection open
			if err := <-served; err != nil {
				t.Error(err)
			}
			transport.CloseIdleConnections()
		})
	}
}

// sayVersion answers a byte before the body ends, and another behind it.
func sayVersion(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		c.EnableFullDuplex()
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(r.Body, first); err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %s", r.Proto, first)
	c.Flush()
	io.Copy(io.Discard, r.Body)
	io.WriteString(w, ".")
}

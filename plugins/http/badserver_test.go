package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// An answer that is cut is an error that can pass, never the end of the part.
func TestAnswersThatAreCut(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	for _, tt := range []struct {
		name   string
		answer string
		reset  bool
		code   sdk.Code
	}{
		{"short of its length", head + "Content-Length: 10\r\n\r\n01234", false, sdk.Unavailable},
		{"without a byte", head + "Content-Length: 10\r\n\r\n", false, sdk.Unavailable},
		{"inside a chunk", head + "Transfer-Encoding: chunked\r\n\r\na\r\n01234", false, sdk.Unavailable},
		{"between chunks", head + "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n", false, sdk.Unavailable},
		{"before the trailer ends", head + "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n", false, sdk.Unavailable},
		{"chunks that are none", head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n01234\r\n0\r\n\r\n", false, sdk.Unavailable},
		{"reset", head + "Content-Length: 10\r\n\r\n01234", true, sdk.Unavailable},
		{"in the header", "HTTP/1.1 200 OK\r\nContent-Ty", false, sdk.Unavailable},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n", false, sdk.Unavailable},
		{"nothing", "", false, sdk.Unavailable},
		{"two lengths", head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n01234", false, sdk.Unavailable},
		{"huge header", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxHeaderBytes), false, sdk.Unavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := newRawServer(t, func(conn net.Conn, _ *http.Request) {
				io.WriteString(conn, tt.answer)
				if tt.reset {
					reset(conn)
				}
			})
			wantError(t, readError(t, newTestPlugin(t, loopback()), edc(url+"?secret")), tt.code, true, "GET "+url+": ")
		})
	}
}

func TestAnswerWithoutLengthOrChunks(t *testing.T) {
	url := newRawServer(t, func(conn net.Conn, _ *http.Request) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nmay be all, or not")
	})
	wantError(t, readError(t, newTestPlugin(t, loopback()), edc(url)), sdk.Unsupported, false, "cannot be told from a cut")
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	wantError(t, readError(t, newTestPlugin(t, loopback()), edc(url)), sdk.Unavailable, true, "refused")
}

// stall holds a connection open until the other side gives up.
func stall(conn net.Conn) { io.Copy(io.Discard, conn) }

func TestServersThatStall(t *testing.T) {
	for _, tt := range []struct {
		name, answer, setting, says string
	}{
		{"before the header", "", "timeout", "timeout"},
		{"in the header", "HTTP/1.1 200 OK\r\nX", "timeout", "timeout"},
		{"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", "idle_timeout", "no byte came for 50ms after 5 bytes"},
		{"in a refusal", "HTTP/1.1 503 Not Now\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\n01234", "idle_timeout",
			"503 Service Unavailable: 01234"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := newRawServer(t, func(conn net.Conn, _ *http.Request) {
				io.WriteString(conn, tt.answer)
				stall(conn)
			})
			p := newTestPlugin(t, loopback().with(tt.setting, "50ms"))
			wantError(t, readError(t, p, edc(url)), sdk.Unavailable, true, tt.says)
		})
	}
}

func TestFlowThatIsCutWhileReading(t *testing.T) {
	url := newRawServer(t, func(conn net.Conn, req *http.Request) {
		if req.URL.Path == "/body" {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
		}
		stall(conn)
	})
	p := newTestPlugin(t, loopback())
	for _, path := range []string{"/header", "/body"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := readAll(ctx, p, sdk.ReadRequest{Address: edc(url + path)})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", path, err)
		}
		wantError(t, err, sdk.Unavailable, true)
		cancel()
	}
}

// writePEM stores blocks in a file.
func writePEM(t *testing.T, name string, blocks ...*pem.Block) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(b)...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// newClientCertificate returns the files of a certificate that signs itself, and a pool that trusts it.
func newClientCertificate(t *testing.T) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return writePEM(t, "client.pem", &pem.Block{Type: "CERTIFICATE", Bytes: der}),
		writePEM(t, "client.key", &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), pool
}

// newTLSServer serves on loopback, and returns the file of the certificate to trust.
func newTLSServer(t *testing.T, config *tls.Config) (server *httptest.Server, caFile string) {
	t.Helper()
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		io.WriteString(w, "content")
	}))
	server.TLS = config
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, writePEM(t, "ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func TestTLS(t *testing.T) {
	server, caFile := newTLSServer(t, nil)
	t.Run("unknown authority", func(t *testing.T) {
		p := newTestPlugin(t, loopback())
		wantError(t, readError(t, p, edc(server.URL)), sdk.Denied, false, "certificate")
		_, err := write(t, p, edc(server.URL), text("a", "a"))
		wantError(t, err, sdk.Denied, false, "certificate")
	})
	t.Run("ca_file", func(t *testing.T) {
		p := newTestPlugin(t, loopback().with("ca_file", caFile))
		if got := read(t, p, edc(server.URL)); got.content != "content" {
			t.Errorf("read %q", got.content)
		}
		if _, err := write(t, p, edc(server.URL), text("a", "a")); err != nil {
			t.Error(err)
		}
	})
	t.Run("another name", func(t *testing.T) {
		p := newTestPlugin(t, loopback().with("ca_file", caFile))
		url := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
		wantError(t, readError(t, p, edc(url)), sdk.Denied, false, "localhost")
	})
	t.Run("HTTP to an HTTPS server", func(t *testing.T) {
		p := newTestPlugin(t, loopback())
		wantError(t, readError(t, p, edc(strings.Replace(server.URL, "https", "http", 1))), sdk.Invalid, false, "400")
	})
	t.Run("HTTPS to an HTTP server", func(t *testing.T) {
		plain := newServer(t, func(http.ResponseWriter, *http.Request) {})
		p := newTestPlugin(t, loopback())
		wantError(t, readError(t, p, edc(strings.Replace(plain.URL, "http", "https", 1))), sdk.Invalid, false, "HTTP response to HTTPS")
	})
}

// refusedByTLS reads from a server that wants another certificate. The request may meet a connection that the server has closed already;
// a transfer then tries again, as this does.
func refusedByTLS(t *testing.T, p sdk.Plugin, address sdk.DataAddress) error {
	t.Helper()
	err := readError(t, p, address)
	for range 100 {
		if e := sdk.AsError(err); e.Code != sdk.Unavailable || !e.Retryable {
			break
		}
		err = readError(t, p, address)
	}
	return err
}

func TestClientCertificates(t *testing.T) {
	certificate, key, pool := newClientCertificate(t)
	server, caFile := newTLSServer(t, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	t.Run("none", func(t *testing.T) {
		p := newTestPlugin(t, loopback().with("ca_file", caFile))
		wantError(t, refusedByTLS(t, p, edc(server.URL)), sdk.Denied, false, "certificate required")
	})
	t.Run("right", func(t *testing.T) {
		p := newTestPlugin(t, loopback().with("ca_file", caFile).with("client_certificate", certificate).with("client_key", key))
		if got := read(t, p, edc(server.URL)); got.content != "content" {
			t.Errorf("read %q", got.content)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		other, otherKey, _ := newClientCertificate(t)
		p := newTestPlugin(t, loopback().with("ca_file", caFile).with("client_certificate", other).with("client_key", otherKey))
		wantError(t, refusedByTLS(t, p, edc(server.URL)), sdk.Denied, false, "certificate")
	})
}

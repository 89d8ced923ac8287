//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// The benchmark of this file compares what counterparties pull through a plugin with what nginx serves of the same files. Both are
// asked for by the same client, which costs the same processor time in both.

const (
	largeFile  = 1 << 30
	smallFile  = 1 << 10
	smallFiles = 32 // and as many clients, each with a flow of its own
)

const nginxConfig = `
daemon off;
worker_processes auto;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 256; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  server { listen %[2]s; root %[3]s; }
}
`

const pullConfig = `
dataplane "bench" { data_dir = %q }
listen "signaling" { address = %q }
listen "public"    { address = "127.0.0.1:0" }
listen "admin"     { address = %q }
plugins {
  directory = %q
  trust     = "off"
}
plugin "file" {
  lane = %q
  config { root = %q }
}
control_plane "bench" { endpoint = "http://127.0.0.1:1" }
profile "http-pull" { allow_http = true }
dataset "large" {
  source "File" { path = "large" }
}
%s
telemetry { log_level = "error" }
`

// download is a file that can be asked for with GET.
type download struct {
	address string // of the server
	request []byte
	size    int64
}

func newDownload(b *testing.B, endpoint, authorization string, size int64) download {
	b.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		b.Fatal(err)
	}
	request := "GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\n"
	if authorization != "" {
		request += "Authorization: " + authorization + "\r\n"
	}
	return download{address: u.Host, request: []byte(request + "\r\n"), size: size}
}

// server is one of those that are compared.
type server struct {
	large download
	small []download
}

func smallName(i int) string { return fmt.Sprint("small-", i) }

// files makes the files that are served, in memory if they fit there.
func files(b *testing.B) string {
	b.Helper()
	in := os.TempDir()
	var shm unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &shm); err == nil && shm.Bavail*uint64(shm.Bsize) > 2*largeFile {
		in = "/dev/shm"
	}
	dir, err := os.MkdirTemp(in, "towpath-pull")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	// The workers of an nginx that root starts are another user's.
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	large, err := os.Create(filepath.Join(dir, "large"))
	for n := 0; err == nil && n < largeFile; n += message {
		_, err = large.Write(block)
	}
	if err = errors.Join(err, large.Close()); err != nil {
		b.Fatal(err)
	}
	for i := range smallFiles {
		if err := os.WriteFile(filepath.Join(dir, smallName(i)), sdktest.Pattern(i, smallFile), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// serveNginx runs nginx until the benchmark ends.
func serveNginx(b *testing.B, files string) server {
	b.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/nginx")
	}
	if err != nil {
		b.Fatal("there is no nginx to compare with: `make nginx` installs it")
	}
	dir, address := b.TempDir(), freeAddress(b)
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, address, files), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-p", dir, "-c", config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	for range 1000 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			s := server{large: newDownload(b, "http://"+address+"/large", "", largeFile)}
			for i := range smallFiles {
				s.small = append(s.small, newDownload(b, "http://"+address+"/"+smallName(i), "", smallFile))
			}
			return s
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.Fatal("nginx did not start")
	return server{}
}

// serveFlows runs a host with a STARTED pull flow for each of the files.
func serveFlows(b *testing.B, files, lane string) server {
	b.Helper()
	datasets := ""
	for i := range smallFiles {
		datasets += fmt.Sprintf("dataset %q {\n  source \"File\" { path = %[1]q }\n}\n", smallName(i))
	}
	h := serveHost(b, []string{"file"}, func(h *host, state, plugins string) string {
		return fmt.Sprintf(pullConfig, state, h.signaling, h.admin, plugins, lane, files, datasets)
	})
	s := server{large: h.pull("large", largeFile)}
	for i := range smallFiles {
		s.small = append(s.small, h.pull(smallName(i), smallFile))
	}
	return s
}

// pull starts a flow of a dataset and returns where its data is.
func (h *host) pull(dataset string, size int64) download {
	h.b.Helper()
	answer := h.signal("start", map[string]any{"dataFlowId": "pull-" + dataset, "participantId": "did:web:us.example",
		"counterPartyId": "did:web:them.example", "dataspaceContext": "d", "agreementId": "a", "datasetId": dataset, "profile": "http-pull",
		"claims": map[string]any{}})
	var started struct {
		DataAddress struct {
			Endpoint           string
			EndpointProperties []struct{ Name, Value string }
		}
	}
	if err := json.Unmarshal(answer, &started); err != nil {
		h.b.Fatal(err)
	}
	for _, p := range started.DataAddress.EndpointProperties {
		if p.Name == "authorization" {
			return newDownload(h.b, started.DataAddress.Endpoint, "Bearer "+p.Value, size)
		}
	}
	h.b.Fatalf("no token in %s", answer)
	return download{}
}

// client is one connection that asks for the same file again and again. It knows as much of HTTP as it takes to tell a whole answer
// from another one, so that the processor is left to those who answer.
type client struct {
	download
	conn int // descriptor
	have []byte
	left int64 // of the answer's body; less than 0: the header is not whole
}

func dialDownload(t download) (*client, error) {
	conn, err := net.Dial("tcp", t.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &client{download: t, left: -1}
	var failure error
	err = raw.Control(func(fd uintptr) { c.conn, failure = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	return c, errors.Join(err, failure)
}

func (c *client) ask() error {
	if n, err := unix.Write(c.conn, c.request); err != nil || n < len(c.request) {
		return fmt.Errorf("send a request: %d bytes, %w", n, err)
	}
	return nil
}

// take reads what there is, and reports whether the answer is whole.
func (c *client) take(buf []byte) (whole bool, err error) {
	n, err := unix.Read(c.conn, buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false, nil
	case err != nil:
		return false, err
	case n == 0:
		return false, io.ErrUnexpectedEOF
	}
	if c.left >= 0 {
		c.left -= int64(n)
	} else if err := c.header(buf[:n]); err != nil {
		return false, err
	}
	if c.left < -1 {
		return false, errors.New("there is more than the answer")
	}
	return c.left == 0, nil
}

var lengthField = []byte("\r\nContent-Length: ")

// header looks for the end of the header in what was read so far.
func (c *client) header(b []byte) error {
	if len(c.have) > 0 {
		b = append(c.have, b...)
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		c.have = append([]byte(nil), b...)
		return nil
	}
	at := bytes.Index(b[:end+2], lengthField)
	if at < 0 || !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("an answer that is not 200 with a length: %.300q", b)
	}
	length := b[at+len(lengthField) : end+2]
	size, err := strconv.ParseInt(string(length[:bytes.IndexByte(length, '\r')]), 10, 64)
	if err != nil || size != c.size {
		return fmt.Errorf("the answer has %d bytes, not %d (%w)", size, c.size, err)
	}
	c.have, c.left = c.have[:0], size-int64(len(b)-end-4)
	return nil
}

// throughput is how many bytes a second one client gets.
func throughput(b *testing.B, t download) float64 {
	b.Helper()
	c, err := dialDownload(t)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(c.conn)
	if err := unix.SetNonblock(c.conn, false); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 256<<10)
	begun := time.Now()
	err = c.ask()
	for whole := false; err == nil && !whole; {
		whole, err = c.take(buf)
	}
	if err != nil {
		b.Fatal(err)
	}
	return float64(t.size) / time.Since(begun).Seconds()
}

// requests is how many a second the clients, one for each download, have answered in a while.
func requests(b *testing.B, targets []download, while time.Duration) float64 {
	b.Helper()
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(poll)
	clients := map[int32]*client{}
	for _, t := range targets {
		c, err := dialDownload(t)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(c.conn)
		clients[int32(c.conn)] = c
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, c.conn, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.conn)}); err != nil {
			b.Fatal(err)
		}
		if err := c.ask(); err != nil {
			b.Fatal(err)
		}
	}
	answered, begun, buf := 0, time.Now(), make([]byte, 16<<10)
	events := make([]unix.EpollEvent, len(targets))
	for time.Since(begun) < while {
		n, err := unix.EpollWait(poll, events, 10_000)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			b.Fatal("no client is answered", err)
		}
		for _, e := range events[:n] {
			c := clients[e.Fd]
			whole, err := c.take(buf)
			if whole {
				answered++
				c.left = -1
				err = c.ask()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	return float64(answered) / time.Since(begun).Seconds()
}

// BenchmarkPull is what counterparties get of a file of 1 GiB, and of files of 1 KiB with 32 connections, through the plugin file on
// each lane, compared with nginx.
func BenchmarkPull(b *testing.B) {
	const rounds, while = 5, 2 * time.Second
	dir := files(b)
	names := []string{"nginx", "grpc", "fd1"}
	servers := map[string]server{"nginx": serveNginx(b, dir), "grpc": serveFlows(b, dir, "grpc"), "fd1": serveFlows(b, dir, "auto")}
	large, small := map[string][]float64{}, map[string][]float64{}
	for b.Loop() {
		for range rounds {
			for _, name := range names {
				large[name] = append(large[name], throughput(b, servers[name].large)/(1<<30))
			}
			for _, name := range names {
				small[name] = append(small[name], requests(b, servers[name].small, while))
			}
		}
	}
	for _, name := range names {
		b.ReportMetric(median(large[name]), name+"-GiB/s")
		b.ReportMetric(median(small[name]), name+"-1KiB/s")
	}
	for _, name := range names[1:] {
		b.ReportMetric(median(large[name])/median(large["nginx"]), name+"/nginx-1GiB")
		b.ReportMetric(median(small[name])/median(small["nginx"]), name+"/nginx-1KiB")
	}
	b.ReportMetric(0, "ns/op")
}

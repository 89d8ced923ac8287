package main

import (
	"io"
	"net/http"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

// A server that dies before it has answered ends the request, although whoever sends the body is silent.
func TestServerDiesBeforeItsAnswer(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		io.CopyN(io.Discard, req.Body, 4)
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
	})
	body, writer := io.Pipe()
	defer writer.Close()
	go io.WriteString(writer, "half")
	_, err := readAll(t.Context(), newTestPlugin(t, loopback()), sdk.ReadRequest{Address: edc(server.URL, "proxyBody", "true", "method", "POST"),
		Request: &sdk.ProxyRequest{Method: http.MethodPost, Body: body, Size: sdk.SizeUnknown}})
	wantError(t, err, sdk.Unavailable, true)
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newOffer returns a demo whose provider offers one part. Its token is answered with afterwards once the flow is terminated.
func newOffer(t *testing.T, answered string, afterwards int) *demo {
	t.Helper()
	terminated, server := false, (*httptest.Server)(nil)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /dataflows/start", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"dataAddress":{"endpoint":"%s/flows/f","endpointProperties":[{"name":"authorization","value":"t"}]}}`, server.URL)
	})
	mux.HandleFunc("POST /dataflows/f/terminate", func(w http.ResponseWriter, _ *http.Request) {
		terminated = true
		fmt.Fprint(w, `{}`)
	})
	mux.HandleFunc("GET /api/v1/flows/f", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(flowStatus{State: "TERMINATED"})
	})
	mux.HandleFunc("GET /flows/f", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"parts":[{"name":%q,"href":"./f/part"}]}`, largest)
	})
	mux.HandleFunc("GET /flows/f/part", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer t":
			w.WriteHeader(http.StatusUnauthorized)
		case terminated:
			w.WriteHeader(afterwards)
		default:
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(answered))
		}
	})
	server = httptest.NewServer(mux)
	t.Cleanup(server.Close)
	h := &host{name: provider, signaling: server.URL, admin: server.URL, files: t.TempDir()}
	put(t, h, largest, strings.Repeat("x", 2*piece))
	return &demo{console: &console{out: &bytes.Buffer{}}, provider: &participant{h, newTestControlPlane(t, server.URL)}}
}

func TestRefuse(t *testing.T) {
	right := strings.Repeat("x", 2*piece)
	for _, c := range []struct {
		name, answered string
		afterwards     int
		want           string // "": all is well
	}{
		{"refused", right, http.StatusForbidden, ""},
		{"not authorized", right, http.StatusUnauthorized, ""},
		{"not refused", right, http.StatusPartialContent, "the flow is terminated, and yet"},
		{"gone", right, http.StatusNotFound, "the flow is terminated, and yet"},
		{"other content", strings.Repeat("y", 2*piece), http.StatusForbidden, "is not what is in the file"},
		{"nothing", "", http.StatusForbidden, "the token is good, and yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newOffer(t, c.answered, c.afterwards)
			err := d.refuse(t.Context(), "f")
			if c.want == "" && err == nil && len(d.rows) == 1 {
				return
			}
			if c.want == "" || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, rows %v", err, d.rows)
			}
		})
	}
}

func TestPartURL(t *testing.T) {
	const listing = `{"parts":[{"name":"a b.bin","href":"./f/parts/a%20b.bin"},{"name":"c","href":"/elsewhere/c","size":3}]}`
	for name, want := range map[string]string{
		"a b.bin": "http://127.0.0.1:1/flows/f/parts/a%20b.bin",
		"c":       "http://127.0.0.1:1/elsewhere/c",
	} {
		if got, err := partURL("http://127.0.0.1:1/flows/f", []byte(listing), name); err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for _, bad := range []string{listing, `{"parts":[]}`, `{}`, `[]`, ``} {
		if got, err := partURL("http://127.0.0.1:1/flows/f", []byte(bad), "missing"); err == nil {
			t.Errorf("%s: got %q", bad, got)
		}
	}
}

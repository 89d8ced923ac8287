package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestStatusErrors(t *testing.T) {
	for _, tt := range []struct {
		status    int
		code      sdk.Code
		retryable bool
	}{
		{300, sdk.Invalid, false}, {304, sdk.Invalid, false}, {400, sdk.Invalid, false}, {401, sdk.Denied, false}, {403, sdk.Denied, false},
		{404, sdk.NotFound, false}, {405, sdk.Invalid, false}, {407, sdk.Denied, false}, {408, sdk.Unavailable, true}, {409, sdk.Conflict, false},
		{410, sdk.NotFound, false}, {411, sdk.Invalid, false}, {412, sdk.Conflict, false}, {413, sdk.Exhausted, false}, {415, sdk.Invalid, false},
		{422, sdk.Invalid, false}, {425, sdk.Unavailable, true}, {429, sdk.Unavailable, true}, {451, sdk.Invalid, false},
		{500, sdk.Unavailable, true}, {501, sdk.Unsupported, false}, {502, sdk.Unavailable, true}, {503, sdk.Unavailable, true},
		{504, sdk.Unavailable, true}, {505, sdk.Unsupported, false}, {507, sdk.Exhausted, true}, {599, sdk.Unavailable, true}, {999, sdk.Unavailable, true},
	} {
		server := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.status) })
		err := readError(t, newTestPlugin(t, loopback()), edc(server.URL+"/x?secret"))
		wantError(t, err, tt.code, tt.retryable, "GET "+server.URL+"/x: ")
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats the query: %v", err)
		}
	}
}

func TestMessagesOfPeers(t *testing.T) {
	long := strings.Repeat("é", 2*maxMessage)
	for _, tt := range []struct {
		name, mediaType, body, want string
	}{
		{"problem", "application/problem+json", `{"type":"about:blank","title":"Title","detail":"The detail"}`, ": The detail"},
		{"title only", "application/problem+json", `{"title":"Title"}`, ": Title"},
		{"message", "application/json", `{"message":"Why not"}`, ": Why not"},
		{"errors", "application/json; charset=utf-8", `{"errors":["One","Two"]}`, ": One; Two"},
		{"errors of objects", "application/json", `{"errors":[{"message":"One"},{"detail":"Two"},{}]}`, ": One; Two"},
		{"array of objects", "application/json", `[{"message":"One","type":"X"}]`, ": One"},
		{"oauth", "application/json", `{"error":"invalid_token","error_description":"The token is too old"}`, ": The token is too old"},
		{"without a type", "", `{"message":"Why not"}`, ": Why not"},
		{"text", "text/plain; charset=utf-8", "no\r\n\x1b[31mway\x00\u202e\n", ": no [31mway"},
		{"markup", "text/html", "<html><body>no</body></html>", ""},
		{"null", "application/json", `null`, ""},
		{"numbers", "application/json", `{"message":1,"detail":null,"errors":{"a":1}}`, ""},
		{"broken", "application/json", `{"message":"Why`, ""},
		{"secret in the header", "text/plain", "bad token abcd-efgh", ": bad token ..."},
		{"secret in the query", "text/plain", "cannot GET /x?sig=s3cr3t%21 or s3cr3t!", ": cannot GET /x?... or ..."},
		{"query of another URL", "text/plain", "see https://b.example/?key=1234 there", ": see https://b.example/?... there"},
		{"long", "text/plain", long, ": " + long[:len("é")*maxMessage] + "..."},
		{"no UTF-8", "text/plain", "\xff\xfe", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{tt.mediaType}
				w.WriteHeader(http.StatusForbidden)
				io.WriteString(w, tt.body)
			})
			err := readError(t, newTestPlugin(t, loopback()), dps(server.URL+"/x?sig=s3cr3t%21", "authorization", "abcd-efgh"))
			if want := "GET " + server.URL + "/x: 403 Forbidden" + tt.want; err.Error() != want {
				t.Errorf("%q, want %q", err, want)
			}
		})
	}
}

func TestHugeErrorBody(t *testing.T) {
	server := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusBadGateway)
		for chunk := strings.Repeat("x", 64<<10); req.Context().Err() == nil; {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	})
	err := readError(t, newTestPlugin(t, loopback().with("max_error_body", "1KiB")), edc(server.URL))
	wantError(t, err, sdk.Unavailable, true, "502 Bad Gateway: xxx")
	if len(err.Error()) > 2*maxMessage {
		t.Errorf("the message has %d bytes", len(err.Error()))
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"120", "", 2 * time.Minute},
		{" 7 ", "", 7 * time.Second},
		{"-1", "", 0},
		{"1.5", "", 0},
		{"999999999", "", maxRetryAfter},
		{"99999999999999999999", "", 0},
		{"Fri, 02 Jan 2026 03:05:05 GMT", "", time.Minute},
		{"Fri, 02 Jan 2026 03:05:05 GMT", "Fri, 02 Jan 2026 03:05:00 GMT", 5 * time.Second},
		{"Fri, 02 Jan 2020 03:05:05 GMT", "", 0},
		{"soon", "", 0},
	} {
		h := http.Header{"Retry-After": {tt.value}, "Date": {tt.date}}
		if got := retryAfter(h, now); got != tt.want {
			t.Errorf("%q at %q: %s, want %s", tt.value, tt.date, got, tt.want)
		}
	}
}

func TestRefusalThatPasses(t *testing.T) {
	for status, code := range map[int]sdk.Code{http.StatusConflict: sdk.Conflict, http.StatusBadRequest: sdk.Invalid} {
		server := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
		})
		err := readError(t, newTestPlugin(t, loopback()), edc(server.URL))
		wantError(t, err, code, true)
		if got := sdk.AsError(err).RetryAfter; got != 3*time.Second {
			t.Errorf("%d: retry after %s", status, got)
		}
	}
}

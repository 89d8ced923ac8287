package main

import (
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childVariable makes the test binary a child that behaves in the way named.
const childVariable = "TOWPATH_DEMO_TEST_CHILD"

func TestMain(m *testing.M) {
	if behaviour := os.Getenv(childVariable); behaviour != "" {
		os.Exit(child(behaviour))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		os.Exit(code)
	}))
}

// child says "up" in its own way, and ends when it is asked to, or will not.
func child(behaviour string) int {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	os.Stdout.WriteString("up\n")
	for {
		select {
		case <-asked:
			if behaviour == "obliging" {
				return 0
			}
		case <-time.After(time.Minute):
			return 9 // nobody is to wait for ever if a test breaks
		}
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-work", "somewhere", "-size", "8MiB", "-plain"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(o.work) || filepath.Base(o.work) != "somewhere" || o.size != 8<<20 || !o.plain {
		t.Errorf("got %+v", o)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{{"-sise", "8MiB"}, {"-size", "many"}, {"push"}} {
		var said strings.Builder
		if _, err := parse(args, &said); err == nil || said.Len() == 0 {
			t.Errorf("%q: got %v, said %q", args, err, &said)
		}
	}
}

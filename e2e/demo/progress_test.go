package main

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// arriving returns what has arrived of something that takes ten seconds.
func arriving(total int64) func() (int64, error) {
	begun := time.Now()
	return func() (int64, error) { return min(total, int64(time.Since(begun).Seconds()*float64(total)/10)), nil }
}

func TestLines(t *testing.T) {
	for name, c := range map[string]struct {
		work func() (string, error)
		want string
	}{
		"to the end": {func() (string, error) { time.Sleep(12 * time.Second); return "done", nil },
			"10 20 30 40 50 60 70 80 90 100 done"},
		"to the middle": {func() (string, error) { time.Sleep(2550 * time.Millisecond); return "suspended", nil }, "10 20 25 suspended"},
		"to a failure":  {func() (string, error) { time.Sleep(1050 * time.Millisecond); return "", errors.New("no") }, "10 10 failed"},
		"at once":       {func() (string, error) { return "done", nil }, "100 done"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b bytes.Buffer
				c1 := &console{out: &b}
				wantErr := strings.HasSuffix(c.want, "failed")
				if err := c1.during(100<<20, arriving(100<<20), c.work); (err != nil) != wantErr {
					t.Error(err)
				}
				var got []string
				for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
					words := strings.Fields(line)
					got = append(got, words[0])
					if len(words) > 7 {
						got = append(got, words[7])
					}
				}
				if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
					t.Errorf("%s\n%s", diff, &b)
				}
			})
		})
	}
}

func TestUnreadableProgressIsNoFailure(t *testing.T) {
	var b bytes.Buffer
	c := &console{out: &b}
	unreadable := func() (int64, error) { return 0, errors.New("permission denied") }
	if err := c.during(1<<20, unreadable, func() (string, error) { return "done", nil }); err != nil {
		t.Error(err)
	}
}

// TestBarEnds: the bar of a transfer that breaks off must not keep the demo waiting, nor one that has all bytes before it is done.
func TestBarEnds(t *testing.T) {
	for _, text := range []string{"done", "suspended"} {
		var b bytes.Buffer
		bar := newBar(&b, 100)
		bar.set(50)
		bar.set(100)
		bar.end(text, text == "done")
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newConsole(f, false).bars {
		t.Error("bars are drawn on something that is no terminal")
	}
}

package pluginhost

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseLine(t *testing.T) {
	for _, test := range []struct {
		line, want string
	}{
		{`plain`, `INFO plain`},
		{`[WARN] careful`, `WARN [WARN] careful`},
		{`[error] lower case`, `ERROR [error] lower case`},
		{`[TRACE] detail`, `DEBUG [TRACE] detail`},
		{`[other] tag`, `INFO [other] tag`},
		{`[`, `INFO [`},
		{`panic: oh no`, `ERROR panic: oh no`},
		{`fatal error: all goroutines are asleep`, `ERROR fatal error: all goroutines are asleep`},
		{`{"@level":"warn","@message":"m","@timestamp":"t","@module":"a.b","n":1.50,"ok":true,"l":[1,{"x":null}]}`,
			`WARN m l=[1,{"x":null}] module=a.b n=1.50 ok=true`},
		{`{"time":"t","level":"ERROR","msg":"slog","k":"v"}`, `ERROR slog k=v`},
		{`{"@message":"no level"}`, `INFO no level`},
		{`{"@message":"odd level","@level":"loud"}`, `INFO odd level`},
		{`{"@message":"level is a number","@level":3}`, `INFO level is a number plugin_level=3`},
		{`{"@message":"forged","plugin":"other","level":"debug","msg":"x","time":1,"pid":1}`,
			`DEBUG forged plugin_msg=x plugin_pid=1 plugin_plugin=other plugin_time=1`},
		{`{"@message":1}`, `INFO {"@message":1}`},
		{`{"@timestamp":5}`, `INFO {"@timestamp":5}`},
		{`{"@message":"m","@timestamp":5}`, `INFO m timestamp=5`},
		{`{"@message":null}`, `INFO {"@message":null}`},
		{`{"@message":"m"} {"@message":"n"}`, `INFO {"@message":"m"} {"@message":"n"}`},
		{`{"@message":"m"`, `INFO {"@message":"m"`},
		{`{}`, `INFO {}`},
		{`{"a":` + strings.Repeat("[", 2000), `INFO {"a":` + strings.Repeat("[", 2000)},
	} {
		l := parseLine(test.line)
		got := l.level.String() + " " + l.message
		for _, a := range l.attrs {
			got += " " + a.String()
		}
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.line, got, test.want)
		}
	}
}

func TestSplitter(t *testing.T) {
	long := strings.Repeat("l", maxLine+5)
	for _, test := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"a", []string{"a+0"}},
		{"a\nb\n", []string{"a+0", "b+0"}},
		{"\n\na\n\n", []string{"a+0"}},
		{"a\r\nb", []string{"a\r+0", "b+0"}},
		{long[:maxLine] + "\n", []string{long[:maxLine] + "+0"}},
		{long + "\nb", []string{long[:maxLine] + "+5", "b+0"}},
	} {
		for _, step := range []int{1, 3, maxLine, 1 << 20} {
			var got []string
			s := &splitter{emit: func(text []byte, cut int) { got = append(got, fmt.Sprintf("%s+%d", text, cut)) }}
			for piece := range slices.Chunk([]byte(test.in), step) {
				if n, err := s.Write(piece); n != len(piece) || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
			}
			s.flush()
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%.20q in pieces of %d: %s", test.in, step, diff)
			}
		}
	}
}

func TestOutputIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, dropped := newRecorder(), new(atomic.Int64)
		o := newOutput(slog.New(slog.NewJSONHandler(log, nil)), dropped)
		for i := range linesAtOnce + 30 {
			o.line("stderr", fmt.Appendf(nil, "line %d", i), 0)
		}
		if len(log.records) != linesAtOnce || dropped.Load() != 30 {
			t.Fatalf("%d lines logged, %d dropped", len(log.records), dropped.Load())
		}
		time.Sleep(time.Second)
		o.line("stderr", []byte("later"), 0)
		last := log.records[linesAtOnce:]
		if len(last) != 2 || last[0]["lines"] != float64(30) || last[1]["msg"] != "later" {
			t.Errorf("after a second: %v", last)
		}
		tail := o.close()
		if len(tail) != tailLines || tail[0] != fmt.Sprintf("line %d", linesAtOnce+30-tailLines+1) || tail[tailLines-1] != "later" {
			t.Errorf("tail: %q", tail)
		}
	})
}

func TestTailKeepsThePanic(t *testing.T) {
	log := newRecorder()
	o := newOutput(slog.New(slog.NewJSONHandler(log, nil)), new(atomic.Int64))
	s := o.splitter("stderr")
	fmt.Fprintln(s, "before")
	fmt.Fprintln(s, `{"@message":"chatter","@level":"debug"}`)
	fmt.Fprintln(s, "panic: "+strings.Repeat("p", 2*maxTailLine))
	for i := range 50 {
		fmt.Fprintf(s, "goroutine %d\n\n", i)
	}
	tail := o.close()
	if len(tail) != tailLines || !strings.HasPrefix(tail[0], "panic: p") || len(tail[0]) > maxTailLine+3 || tail[1] != "goroutine 0" {
		t.Errorf("tail: %q", tail)
	}
	if got := log.records[2]; got["level"] != "ERROR" {
		t.Errorf("a line of the panic: %v", got)
	}
}

func FuzzOutput(f *testing.F) {
	for _, seed := range []string{"", "a\nb", `{"@message":1}`, `{"@timestamp":5}`, `{"@message":"m","@level":{}}`, "panic: x\n\x00\xff", "[", "[]",
		`{"@message":"m","@":1,"":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var log strings.Builder
		o := newOutput(slog.New(slog.NewJSONHandler(&log, nil)), new(atomic.Int64))
		s := o.splitter("stderr")
		s.Write(data)
		s.flush()
		for line := range strings.Lines(log.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("record %q", line)
			}
		}
		if n := len(o.close()); n > tailLines {
			t.Errorf("%d lines kept", n)
		}
	})
}

package pluginhost

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Bounds on what a plugin's output can cost the host.
const (
	maxLine      = 8 << 10 // bytes kept of a line
	maxFields    = 32      // fields taken from a structured line
	linesASecond = 100
	linesAtOnce  = 1000
	tailLines    = 20
	maxTailLine  = 1 << 10
)

// output turns what a plugin process prints into records of the host's log, and keeps the last lines for whoever asks why it ended.
// Its methods may be called concurrently.
type output struct {
	log     *slog.Logger
	dropped *atomic.Int64 // lines, of all processes of the plugin

	mu      sync.Mutex
	limiter *rate.Limiter
	waiting int // lines dropped since the last that was logged
	panics  bool
	tail    []string
}

// newOutput returns an output that logs to log, which names the plugin, and counts what it drops in dropped.
func newOutput(log *slog.Logger, dropped *atomic.Int64) *output {
	return &output{log: log, dropped: dropped, limiter: rate.NewLimiter(linesASecond, linesAtOnce)}
}

// copy reads r to its end.
func (o *output) copy(stream string, r io.Reader) {
	s := o.splitter(stream)
	io.Copy(s, r)
	s.flush()
}

// splitter returns a writer for one stream.
func (o *output) splitter(stream string) *splitter {
	return &splitter{emit: func(text []byte, cut int) { o.line(stream, text, cut) }}
}

// line takes one line. cut bytes are missing at its end.
func (o *output) line(stream string, text []byte, cut int) {
	line := strings.ToValidUTF8(string(bytes.TrimRight(text, "\r")), "\uFFFD")
	if strings.TrimSpace(line) == "" {
		return
	}
	record := parseLine(line)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keep(record)
	if o.panics && !record.structured {
		record.level = slog.LevelError
	}
	if !o.limiter.Allow() {
		o.waiting++
		o.dropped.Add(1)
		return
	}
	o.reportDropped()
	attrs := append(record.attrs, slog.String("stream", stream))
	if cut > 0 {
		attrs = append(attrs, slog.Int("bytes_cut", cut))
	}
	o.log.LogAttrs(context.Background(), record.level, record.message, attrs...)
}

// keep adds a line to the tail. From the first line of a panic on, the first lines are kept instead of the last: they say what it was.
func (o *output) keep(l logLine) {
	line := l.message
	switch {
	case l.level < slog.LevelInfo:
		return
	case !o.panics && isPanic(line):
		o.panics, o.tail = true, nil
	case len(o.tail) == tailLines && o.panics:
		return
	case len(o.tail) == tailLines:
		o.tail = slices.Delete(o.tail, 0, 1)
	}
	if len(line) > maxTailLine {
		line = strings.ToValidUTF8(line[:maxTailLine], "") + "..."
	}
	o.tail = append(o.tail, line)
}

func isPanic(line string) bool { return panicLine.MatchString(line) }

// panicLine is how the account begins that a program in Go gives of its sudden end.
var panicLine = regexp.MustCompile(`^(panic|fatal error|fatal|runtime/cgo|SIG[A-Z]+): `)

func (o *output) reportDropped() {
	if o.waiting > 0 {
		o.log.Warn("plugin prints too much, lines were dropped", "lines", o.waiting)
		o.waiting = 0
	}
}

// close reports what was dropped last, and returns the tail.
func (o *output) close() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reportDropped()
	return slices.Clone(o.tail)
}

// logLine is what a line says.
type logLine struct {
	level      slog.Level
	message    string
	attrs      []slog.Attr
	structured bool
}

// parseLine reads a line of hclog's or slog's JSON; any other line is a message as it stands.
func parseLine(line string) logLine {
	if strings.HasPrefix(line, "{") {
		if l, ok := parseJSON(line); ok {
			return l
		}
	}
	l := logLine{level: slog.LevelInfo, message: line}
	if isPanic(line) {
		l.level = slog.LevelError
	}
	if prefix, _, ok := strings.Cut(strings.TrimPrefix(line, "["), "]"); ok && line[0] == '[' {
		if level, ok := levels[strings.ToLower(prefix)]; ok {
			l.level = level
		}
	}
	return l
}

var levels = map[string]slog.Level{
	"trace": slog.LevelDebug,
	"debug": slog.LevelDebug,
	"info":  slog.LevelInfo,
	"warn":  slog.LevelWarn,
	"error": slog.LevelError,
}

// parseJSON takes nothing for granted: a plugin can print any JSON.
func parseJSON(line string) (logLine, bool) {
	var fields map[string]any
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.UseNumber()
	if decoder.Decode(&fields) != nil || decoder.More() {
		return logLine{}, false
	}
	message, ok := takeString(fields, "@message", "msg")
	if !ok {
		return logLine{}, false
	}
	l := logLine{level: slog.LevelInfo, message: message, structured: true}
	name, _ := takeString(fields, "@level", "level")
	if level, ok := levels[strings.ToLower(name)]; ok {
		l.level = level
	}
	// The host's handler says when it was, near enough.
	takeString(fields, "@timestamp", "time")
	l.attrs = attributes(fields)
	return l, true
}

// takeString removes the first of the keys whose value is a string.
func takeString(fields map[string]any, keys ...string) (string, bool) {
	for _, key := range keys {
		if s, ok := fields[key].(string); ok {
			delete(fields, key)
			return s, true
		}
	}
	return "", false
}

// attributes sorts the fields by name. Names that the host uses itself get a prefix.
func attributes(fields map[string]any) []slog.Attr {
	var attrs []slog.Attr
	for key, value := range fields {
		name := strings.TrimPrefix(key, "@")
		switch name {
		case "plugin", "pid", "stream", "bytes_cut", slog.TimeKey, slog.LevelKey, slog.MessageKey, slog.SourceKey:
			name = "plugin_" + name
		}
		attrs = append(attrs, slog.String(name, text(value)))
	}
	slices.SortFunc(attrs, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	return attrs[:min(len(attrs), maxFields)]
}

func text(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(encoded)
}

// splitter is a writer that cuts its input into lines, and long lines off. It never fails. It is for one goroutine.
type splitter struct {
	emit func(text []byte, cut int)
	line []byte
	cut  int
}

// Write takes any piece of the input.
func (s *splitter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			s.add(p)
			return n, nil
		}
		s.add(p[:end])
		s.flush()
		p = p[end+1:]
	}
}

func (s *splitter) add(p []byte) {
	room := min(len(p), maxLine-len(s.line))
	s.line = append(s.line, p[:room]...)
	s.cut += len(p) - room
}

// flush ends the line that was begun, if there is one.
func (s *splitter) flush() {
	if len(s.line) > 0 {
		s.emit(s.line, s.cut)
	}
	s.line, s.cut = s.line[:0], 0
}

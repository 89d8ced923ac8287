package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// What a host grants a plugin, and how much of its output the suite keeps.
const (
	startTime = 15 * time.Second // until it says where it listens
	stopTime  = 15 * time.Second // to end after SIGTERM: 10 seconds for flows, and some more
	hearTime  = 10 * time.Second // until it has noticed that a call has ended
	tailLines = 20
	maxTail   = 512
)

// process is a launched plugin.
type process struct {
	cmd     *exec.Cmd
	folder  string
	scratch string
	line    handshakeLine
	stdout  *outputLog // what it prints besides the line
	stderr  *outputLog
	exited  chan struct{}
	reaped  chan struct{} // closed when nothing of the process is read any more

	conn   *grpc.ClientConn
	plugin pluginv1.PluginClient
	source pluginv1.DataSourceClient
	sink   pluginv1.DataSinkClient
	stop   context.CancelFunc // of what reads go-plugin's copy of its output
	done   sync.WaitGroup
	ended  sync.Once
}

// handshakeLine is what a plugin says on its standard output: CORE|VERSION|NETWORK|ADDRESS|PROTOCOL|CERTIFICATE.
type handshakeLine struct {
	text                       string
	core, version              string
	network, address, protocol string
	certificate                string
	noise                      string // the first line before it
	before                     int    // lines before it
}

type launchOptions struct {
	cookie string // "": the right one; "-": none
}

// launch starts a process and connects to it. The error says what is wrong with its handshake; nothing is left of it then.
func (s *suite) launch(ctx context.Context, o launchOptions) (*process, error) {
	p, lines, err := s.spawn(o)
	if err != nil {
		return nil, err
	}
	if err := p.handshake(ctx, lines); err != nil {
		p.end()
		return nil, err
	}
	if err := p.connect(); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// spawn starts a process in a process group of its own. The channel has the lines that it prints until it has said where it listens.
func (s *suite) spawn(o launchOptions) (*process, <-chan string, error) {
	s.launches++
	p := &process{folder: filepath.Join(s.root, strconv.Itoa(s.launches)), exited: make(chan struct{}), reaped: make(chan struct{}),
		stdout: &outputLog{}, stderr: &outputLog{}}
	p.scratch = filepath.Join(p.folder, "scratch")
	if err := os.MkdirAll(p.scratch, 0o700); err != nil {
		return nil, nil, err
	}
	p.cmd = exec.Command(s.binary)
	p.cmd.Dir, p.cmd.Env = p.scratch, s.environment(p, o)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	lines := make(chan string, 1024)
	first := &lineWriter{take: func(line string) {
		select {
		case lines <- line:
		default: // nobody wants so many
		}
	}}
	stdout, stdoutChild, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	stderr, stderrChild, err := os.Pipe()
	if err != nil {
		stdout.Close()
		stdoutChild.Close()
		return nil, nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = stdoutChild, stderrChild
	err = p.cmd.Start()
	stdoutChild.Close()
	stderrChild.Close()
	p.done.Go(func() { io.Copy(first, stdout) })
	p.done.Go(func() { io.Copy(p.stderr, stderr) })
	if err != nil {
		p.done.Wait()
		stdout.Close()
		stderr.Close()
		return nil, nil, fmt.Errorf("start the binary: %w", err)
	}
	go p.reap(stdout, stderr)
	return p, lines, nil
}

// outputGrace is how long output that is still in a pipe is read after the process has ended: a child may hold the pipe open.
const outputGrace = 300 * time.Millisecond

// reap waits for the end of the process and of its output.
func (p *process) reap(pipes ...*os.File) {
	p.cmd.Wait()
	for _, f := range pipes {
		f.SetReadDeadline(time.Now().Add(outputGrace))
	}
	close(p.exited)
	p.done.Wait()
	for _, f := range pipes {
		f.Close()
	}
	close(p.reaped)
}

// environment is what a host that is told nothing else gives a plugin.
func (s *suite) environment(p *process, o launchOptions) []string {
	env := []string{"TMPDIR=" + p.scratch, "PLUGIN_PROTOCOL_VERSIONS=" + strconv.Itoa(grpcplugin.Version), "PLUGIN_MIN_PORT=10000",
		"PLUGIN_MAX_PORT=25000", "PLUGIN_UNIX_SOCKET_DIR=" + p.folder, markVariable + "=" + s.mark}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	for name, value := range s.added {
		env = append(env, name+"="+value)
	}
	switch o.cookie {
	case "":
		return append(env, grpcplugin.Handshake.MagicCookieKey+"="+grpcplugin.Handshake.MagicCookieValue)
	case "-":
		return env
	}
	return append(env, grpcplugin.Handshake.MagicCookieKey+"="+o.cookie)
}

// markVariable is in the environment of a plugin and of all that it starts.
const markVariable = "TOWPATH_VERIFY"

// handshake waits for the line that says where the plugin listens. What follows is output.
func (p *process) handshake(ctx context.Context, lines <-chan string) error {
	timeout := time.NewTimer(startTime)
	defer timeout.Stop()
	for {
		select {
		case line := <-lines:
			if parsed, ok := parseHandshake(line); ok {
				parsed.noise, parsed.before = p.line.noise, p.line.before
				p.line = parsed
				p.done.Go(func() { p.keepLines(lines) })
				return p.checkLine()
			}
			if p.line.before++; p.line.noise == "" {
				p.line.noise = line
			}
		case <-p.exited:
			return fmt.Errorf("it ended before it said where it listens: %s%s", p.exit(), p.printed())
		case <-timeout.C:
			return fmt.Errorf("it did not say on its standard output where it listens within %s%s", startTime, p.printed())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// keepLines counts what the plugin goes on to print on its standard output.
func (p *process) keepLines(lines <-chan string) {
	for {
		select {
		case line := <-lines:
			p.stdout.Write([]byte(line + "\n"))
		case <-p.exited:
			return
		}
	}
}

// printed is what it printed instead.
func (p *process) printed() string {
	if p.line.noise == "" {
		return ", and printed nothing there"
	}
	return fmt.Sprintf("; it printed %d other lines there, the first is %.120q", p.line.before, p.line.noise)
}

func parseHandshake(line string) (handshakeLine, bool) {
	fields := strings.Split(strings.TrimSpace(line), "|")
	if len(fields) < 4 {
		return handshakeLine{}, false
	}
	if _, err := strconv.ParseUint(fields[0], 10, 16); err != nil {
		return handshakeLine{}, false
	}
	h := handshakeLine{text: line, core: fields[0], version: fields[1], network: fields[2], address: fields[3]}
	if len(fields) > 4 {
		h.protocol = fields[4]
	}
	if len(fields) > 5 {
		h.certificate = fields[5]
	}
	return h, true
}

// checkLine says what a host would refuse in the line.
func (p *process) checkLine() error {
	h := p.line
	switch {
	case h.core != "1":
		return fmt.Errorf("it speaks version %q of the handshake, not 1: %.200q", h.core, h.text)
	case h.version != strconv.Itoa(grpcplugin.Version):
		return fmt.Errorf("it speaks version %q of the plugin protocol, not %d, the only one in PLUGIN_PROTOCOL_VERSIONS: %.200q",
			h.version, grpcplugin.Version, h.text)
	case h.network != "unix" || filepath.Dir(filepath.Clean(h.address)) != p.folder:
		return fmt.Errorf("it listens on %s %q, not on a unix socket in the folder that PLUGIN_UNIX_SOCKET_DIR names", h.network, h.address)
	case h.protocol != "grpc":
		return fmt.Errorf("it speaks %q, not grpc: %.200q", h.protocol, h.text)
	}
	return nil
}

func (p *process) connect() error {
	conn, err := grpc.NewClient("unix:"+p.line.address, grpcplugin.DialOptions()...)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", p.line.address, err)
	}
	p.conn, p.plugin = conn, pluginv1.NewPluginClient(conn)
	p.source, p.sink = pluginv1.NewDataSourceClient(conn), pluginv1.NewDataSinkClient(conn)
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.done.Go(func() { p.takeOutput(ctx) })
	return nil
}

// takeOutput reads the copy of a plugin's output that go-plugin sends on gRPC, as a host does. Most other languages have no such thing.
func (p *process) takeOutput(ctx context.Context) {
	stream, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/plugin.GRPCStdio/StreamStdio", grpc.ForceCodecV2(rawCodec{}))
	if err != nil || stream.SendMsg(&rawMessage{}) != nil || stream.CloseSend() != nil {
		return
	}
	for {
		var m rawMessage
		if stream.RecvMsg(&m) != nil {
			return
		}
		if channel, data := parseOutput(m.bytes); channel == 1 {
			p.stdout.Write(data)
		} else {
			p.stderr.Write(data)
		}
	}
}

// explain adds to the error of a call what is known of the process.
func (p *process) explain(err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) == codes.Unavailable || errors.Is(err, errCut) {
		select {
		case <-p.exited:
			return fmt.Errorf("%w; the plugin's process has ended: %s", err, p.exit())
		case <-time.After(200 * time.Millisecond): // the connection tells before the process is reaped
		}
	}
	return err
}

func (p *process) hasEnded() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// awaitExit waits until the process has ended by itself.
func (p *process) awaitExit(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
		return fmt.Errorf("its process still ran after %s", d)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// exit says how the process has ended.
func (p *process) exit() string {
	if !p.hasEnded() {
		return "it runs"
	}
	text := p.cmd.ProcessState.String()
	if last := p.stderr.last(); last != "" {
		text += fmt.Sprintf("; last stderr: %.300q", last)
	}
	return text
}

// end kills what is left of the process and its group, and waits for it.
func (p *process) end() {
	p.ended.Do(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.exited
		if p.stop != nil {
			p.stop()
			p.conn.Close()
		}
		<-p.reaped
	})
}

// outputLog counts the lines of a stream and keeps the last. It looks for secrets in all of them.
type outputLog struct {
	mu      sync.Mutex
	lines   int
	bytes   int
	open    []byte // a line that has not ended
	tail    []string
	secrets []string
	leaked  []string // lines with a secret
}

func (o *outputLog) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes += len(b)
	for rest := b; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if len(o.open) < 64<<10 {
			o.open = append(o.open, line...)
		}
		if rest = after; whole {
			o.line(string(o.open))
			o.open = o.open[:0]
		}
	}
	return len(b), nil
}

func (o *outputLog) line(text string) {
	o.lines++
	for _, s := range o.secrets {
		if strings.Contains(text, s) {
			o.leaked = append(o.leaked, text)
		}
	}
	if strings.TrimSpace(text) == "" {
		return
	}
	if o.tail = append(o.tail, text[:min(len(text), maxTail)]); len(o.tail) > tailLines {
		o.tail = o.tail[1:]
	}
}

// watch begins to look for a secret.
func (o *outputLog) watch(secret string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.secrets = append(o.secrets, secret)
}

func (o *outputLog) counts() (lines, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lines, o.bytes
}

func (o *outputLog) leaks() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.leaked)
}

func (o *outputLog) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.tail) == 0 {
		return ""
	}
	for _, line := range o.tail {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return line
		}
	}
	return o.tail[len(o.tail)-1]
}

package pluginhost

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-plugin"

	"github.com/towpath-dataplane/towpath/sdk/grpcplugin"
)

// maxNoise is how many bytes a plugin may print before it says where it listens.
const maxNoise = 1 << 20

// handshake reads a plugin's standard output for the whole life of the process, so that printing there never blocks it, and gives
// go-plugin nothing of it but the line that says where the plugin listens. All other lines are logged.
type handshake struct {
	out       *output
	secure    bool // the line has to have a certificate
	line      *io.PipeWriter
	forPlugin *io.PipeReader // what go-plugin reads

	noise int

	mu   sync.Mutex
	done bool // the line was read, or given up on
	err  error
}

func newHandshake(out *output, secure bool) *handshake {
	h := &handshake{out: out, secure: secure}
	h.forPlugin, h.line = io.Pipe()
	return h
}

// copy reads r to its end.
func (h *handshake) copy(r io.Reader) {
	s := &splitter{emit: h.take}
	io.Copy(s, r)
	s.flush()
	h.line.Close()
}

func (h *handshake) take(text []byte, cut int) {
	done, _ := h.result()
	if done || !looksLikeHandshake(text) {
		h.out.line("stdout", text, cut)
		if h.noise += len(text) + cut; !done && h.noise > maxNoise {
			h.end(finally(errors.New("it prints something else than the line that says where it listens")))
		}
		return
	}
	err := checkHandshake(string(text))
	if err == nil && h.secure && !hasCertificate(string(text)) {
		err = errNoCertificate
	}
	if err == nil {
		h.settle(nil) // first, so that whoever sees the line finds the result
		h.line.Write(append(text, '\n'))
	}
	h.end(err)
}

// end tells go-plugin that nothing follows.
func (h *handshake) end(err error) {
	h.settle(err)
	h.line.Close()
}

func (h *handshake) settle(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done, h.err = true, err
}

// result says whether there was a line, and what was wrong with it.
func (h *handshake) result() (done bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.done, h.err
}

// looksLikeHandshake says whether a line begins as CORE|VERSION|NETWORK|ADDRESS does.
func looksLikeHandshake(line []byte) bool {
	fields := strings.Split(string(line[:min(len(line), 512)]), "|")
	if len(fields) < 4 {
		return false
	}
	_, err := strconv.ParseUint(strings.TrimSpace(fields[0]), 10, 16)
	return err == nil
}

// checkHandshake says which versions each side speaks if they do not match. go-plugin checks the rest.
func checkHandshake(line string) error {
	fields := strings.Split(strings.TrimSpace(line), "|")
	if fields[0] != strconv.Itoa(plugin.CoreProtocolVersion) {
		return finally(fmt.Errorf("it speaks version %s of the go-plugin handshake, this host speaks %d",
			fields[0], plugin.CoreProtocolVersion))
	}
	ours := slices.Sorted(maps.Keys(grpcplugin.Versions()))
	version, err := strconv.Atoi(fields[1])
	if err != nil || !slices.Contains(ours, version) {
		return finally(fmt.Errorf("it speaks version %s of the plugin protocol, this host speaks %s", fields[1], join(ours)))
	}
	return nil
}

var errNoCertificate = finally(errors.New("it does not take part in mutual TLS"))

// hasCertificate says whether the line carries the plugin's certificate.
func hasCertificate(line string) bool {
	fields := strings.Split(strings.TrimSpace(line), "|")
	return len(fields) > 5 && fields[5] != ""
}

func join(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ", ")
}

// checkSocket says whether a plugin listens where it was told to. The host's own rights are not lent to reach another place.
func checkSocket(network, address, folder string) error {
	if network != "unix" || filepath.Dir(filepath.Clean(address)) != folder {
		return finally(fmt.Errorf("it listens on %s %q, not on a unix socket in the folder that %s names",
			network, address, plugin.EnvUnixSocketDir))
	}
	return nil
}

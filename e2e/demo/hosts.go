package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// host is a Towpath host, seen as its operator sees it.
type host struct {
	name      string
	signaling string // base URLs of its listeners
	public    string
	admin     string
	files     string // folder of its file plugin
	log       string
	process   *process // nil until it is started
}

// newHosts returns hosts with free ports of this machine.
func newHosts(w *workspace, names ...string) ([]*host, error) {
	ports, err := freeAddresses(3 * len(names))
	if err != nil {
		return nil, fmt.Errorf("find free ports: %w", err)
	}
	var hosts []*host
	for i, name := range names {
		own := ports[3*i:]
		hosts = append(hosts, &host{
			name: name, signaling: "http://" + own[0], public: "http://" + own[1], admin: "http://" + own[2],
			files: w.files(name), log: w.log(name),
		})
	}
	return hosts, nil
}

// address returns the host and port of a base URL.
func address(base string) string { return strings.TrimPrefix(base, "http://") }

// freeAddresses returns different addresses on which nothing listens.
func freeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // not before all are found, or they would not differ
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// start launches the host.
func (h *host) start(o options, w *workspace, controlPlane string) error {
	log, err := os.Create(h.log)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(o.binary, "serve", "-config", filepath.Join(o.configs, h.name+".hcl"))
	cmd.Env = append(os.Environ(), h.environment(o, w, controlPlane)...)
	cmd.Stdout, cmd.Stderr = log, log
	if h.process, err = startProcess(cmd); err != nil {
		h.process = nil
		return fmt.Errorf("start the %s host (`make build` builds it): %w", h.name, err)
	}
	return nil
}

func (h *host) environment(o options, w *workspace, controlPlane string) []string {
	return []string{
		"TOWPATH_SIGNALING=" + address(h.signaling),
		"TOWPATH_PUBLIC=" + address(h.public),
		"TOWPATH_ADMIN=" + address(h.admin),
		"TOWPATH_CONTROL_PLANE=" + controlPlane,
		"TOWPATH_DATA_DIR=" + w.state(h.name),
		"TOWPATH_PLUGINS=" + o.plugins,
		"TOWPATH_FILES=" + h.files,
	}
}

// awaitReady returns when the host takes signals.
func (h *host) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the %s host was not ready within %v", h.name, readyTimeout))
	defer cancel()
	return poll(ctx, func() (bool, error) {
		resp, err := get(ctx, h.admin+"/readyz", nil)
		if err != nil {
			return false, nil // it does not listen yet
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
}

// stop ends the host if it was started. The error says how it ended if not in order.
func (h *host) stop() error {
	if h.process == nil {
		return nil
	}
	if err := h.process.stop(stopTimeout); err != nil {
		return fmt.Errorf("the %s host did not end in order: %w; its last words:\n%s", h.name, err, h.lastWords())
	}
	return nil
}

// lastWords returns the end of the host's log.
func (h *host) lastWords() string {
	log, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// flowStatus is what the admin API says about a data flow.
type flowStatus struct {
	Role           string     `json:"role"`
	Direction      string     `json:"direction"`
	State          string     `json:"state"`
	Parts          int64      `json:"parts"`
	Bytes          int64      `json:"bytes"`
	Waiting        string     `json:"waiting"`
	Fault          string     `json:"fault"`
	CleanupPending bool       `json:"cleanupPending"`
	PartList       []flowPart `json:"partList"`
}

// flowPart is a part that is durable.
type flowPart struct {
	Name     string    `json:"name"`
	SHA256   string    `json:"sha256"`
	Finished time.Time `json:"finished"`
}

func (h *host) flow(ctx context.Context, id string) (*flowStatus, error) {
	resp, err := get(ctx, h.admin+"/api/v1/flows/"+url.PathEscape(id), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("admin API of the %s host: %s", h.name, resp.Status)
	}
	f := &flowStatus{}
	if err := json.NewDecoder(resp.Body).Decode(f); err != nil {
		return nil, fmt.Errorf("admin API of the %s host: %w", h.name, err)
	}
	return f, nil
}

// landed returns the bytes in the host's files, those of parts that are not whole included.
func (h *host) landed() (int64, error) {
	sizes, err := fileSizes(h.files)
	total := int64(0)
	for _, n := range sizes {
		total += n
	}
	return total, err
}

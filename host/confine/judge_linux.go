package confine

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/towpath-dataplane/towpath/sdk"
)

// judge says where a process may connect to.
type judge struct {
	rules   []sdk.ConnectRule // nil: anywhere
	folders []string          // with unix sockets; nil: any
	servers []netip.AddrPort  // that names are asked of
	names   *names
	refused func(what string)
}

// domainPort is where name servers answer.
const domainPort = 53

func newJudge(p Policy, folder string, refused func(string)) judge {
	j := judge{rules: p.connect, names: newNames(net.DefaultResolver.LookupNetIP), refused: refused}
	if p.write != nil {
		for _, root := range append([]string{folder}, p.write...) {
			if resolved, err := filepath.EvalSymlinks(root); err == nil {
				j.folders = append(j.folders, resolved)
			}
		}
	}
	if p.datagrams() {
		text, _ := os.ReadFile("/etc/resolv.conf")
		j.servers = nameServers(string(text))
	}
	return j
}

// nameServers are those of resolv.conf.
func nameServers(text string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a.WithZone("").Unmap(), domainPort))
		}
	}
	if out == nil {
		out = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53")}
	}
	return out
}

// refuse tells the host what was refused.
func (j judge) refuse(what string) error {
	j.refused("connect to " + what)
	return unix.EACCES
}

// network judges an address that is not of this machine's files.
func (j judge) network(family uint16, address []byte) error {
	to, ok := internet(family, address)
	if !ok {
		return unix.EAFNOSUPPORT
	}
	if j.reachable(to) {
		return nil
	}
	return j.refuse(to.String())
}

func (j judge) reachable(to netip.AddrPort) bool {
	// The system takes the unspecified address for this machine.
	if to.Addr() == netip.IPv4Unspecified() {
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	} else if to.Addr() == netip.IPv6Unspecified() {
		to = netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	if j.rules == nil || slices.Contains(j.servers, to) {
		return true
	}
	var named []string
	for _, r := range j.rules {
		switch {
		case !r.Matches(to):
		case r.Name == "":
			return true
		default:
			named = append(named, r.Name)
		}
	}
	return slices.ContainsFunc(named, func(name string) bool { return j.names.have(name, to.Addr()) })
}

// socket judges a unix socket by its path.
func (j judge) socket(path string) bool {
	return j.folders == nil || slices.ContainsFunc(j.folders, func(root string) bool { return below(path, root) })
}

// netlink lets a process ask the kernel, and no other process.
func (j judge) netlink(address []byte) error {
	if len(address) < unix.SizeofSockaddrNetlink || binary.NativeEndian.Uint32(address[4:]) != 0 || binary.NativeEndian.Uint32(address[8:]) != 0 {
		return unix.EACCES
	}
	return nil
}

// names knows the addresses of names. Name servers give a large service's addresses out in turn, so what a name has had stays good.
type names struct {
	lookup func(ctx context.Context, network, name string) ([]netip.Addr, error)
	ctx    context.Context // of all that is looked up
	cancel context.CancelFunc

	mu    sync.Mutex // guards the rest, and is held while a name is looked up
	known map[string]map[netip.Addr]time.Time
	asked map[string]time.Time
}

const (
	lookupTimeout = 5 * time.Second
	askAgain      = time.Second      // after a name was looked up
	forget        = 10 * time.Minute // after an address was seen last
)

func newNames(lookup func(context.Context, string, string) ([]netip.Addr, error)) *names {
	n := &names{lookup: lookup, known: map[string]map[netip.Addr]time.Time{}, asked: map[string]time.Time{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// have reports whether a name has an address.
func (n *names) have(name string, a netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if seen, ok := n.known[name][a]; ok && time.Since(seen) < forget {
		return true
	}
	if time.Since(n.asked[name]) < askAgain {
		return false
	}
	ctx, cancel := context.WithTimeout(n.ctx, lookupTimeout)
	defer cancel()
	addresses, _ := n.lookup(ctx, "ip", name) // what cannot be looked up has no addresses
	now := time.Now()
	n.asked[name] = now
	if n.known[name] == nil {
		n.known[name] = map[netip.Addr]time.Time{}
	}
	for _, found := range addresses {
		n.known[name][found.WithZone("").Unmap()] = now
	}
	_, ok := n.known[name][a]
	return ok && time.Since(n.known[name][a]) < forget
}

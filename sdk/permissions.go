package sdk

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Permissions are what a plugin needs of the machine it runs on. An operator can allow less; what is neither needed nor allowed is out
// of the plugin's reach, where the system can see to that. A plugin that declares some declares all: an empty list means that it needs
// nothing of the kind beyond what every plugin has, which is its own file, its scratch folder, the system's libraries, certificates and
// time zones, and the sockets between it and its host.
type Permissions struct {
	// Environment are the names of variables it reads.
	Environment []string
	// Read and Write are folders and files it reads and writes, as absolute paths. What may be written may be read.
	Read  []string
	Write []string
	// Connect are the addresses it connects to, in the notation of ParseConnectRule.
	Connect []string
	// Memory is how many bytes it needs at most, OpenFiles how many open files and sockets. 0: it does not say.
	Memory    int64
	OpenFiles int
}

// Check says what is wrong with the permissions.
func (p Permissions) Check() error {
	for _, name := range p.Environment {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("%q is not the name of an environment variable", name)
		}
	}
	for _, path := range slices.Concat(p.Read, p.Write) {
		if err := CheckPath(path); err != nil {
			return err
		}
	}
	for _, rule := range p.Connect {
		if _, err := ParseConnectRule(rule); err != nil {
			return err
		}
	}
	if p.Memory < 0 || p.OpenFiles < 0 {
		return errors.New("a limit is negative")
	}
	return nil
}

// CheckPath says whether a path can be part of Permissions.
func CheckPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return fmt.Errorf("%q is not a plain absolute path", path)
	}
	return nil
}

// ConnectRule is a set of network addresses: those that have the port, lie in the network, and belong to the name.
type ConnectRule struct {
	Name    string       // lower case; "": any
	Network netip.Prefix // the zero value: any
	Port    uint16       // 0: any
}

// ParseConnectRule reads host:port. The host is a name, an IP address, a network such as 10.0.0.0/8, or * for any; IPv6 stands in
// brackets. The port is a number, or * for any.
func ParseConnectRule(s string) (ConnectRule, error) {
	var r ConnectRule
	colon := strings.LastIndexByte(s, ':')
	if colon < 1 {
		return r, fmt.Errorf("%q is not host:port, such as s3.example.com:443, 10.0.0.0/8:443 or *:5432", s)
	}
	host, port := s[:colon], s[colon+1:]
	if port != "*" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return r, fmt.Errorf("%q has no port from 1 to 65535, nor *", s)
		}
		r.Port = uint16(n)
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(host, ":") {
			return r, fmt.Errorf("%q has brackets, but no IPv6 address or network in them", s)
		}
	} else if strings.Contains(host, ":") {
		return r, fmt.Errorf("%q has an IPv6 address without brackets", s)
	}
	if host == "*" {
		return r, nil
	}
	if network, err := parseNetwork(host); err == nil {
		r.Network = network
		return r, nil
	}
	r.Name = strings.ToLower(strings.TrimSuffix(host, "."))
	if !isHostName(r.Name) {
		return r, fmt.Errorf("%q has no host name, address or network, nor *", s)
	}
	return r, nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, errors.New("not an address")
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// isHostName reports whether s is letters, digits and '-', in parts between dots, and no mistyped address.
func isHostName(s string) bool {
	if len(s) > 253 || strings.Trim(s, "0123456789./") == "" {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || len(part) > 63 || part[0] == '-' || part[len(part)-1] == '-' || strings.Trim(part, nameLetters) != "" {
			return false
		}
	}
	return true
}

const nameLetters = "abcdefghijklmnopqrstuvwxyz0123456789-_"

// String is the notation that ParseConnectRule reads, but for a rule that has both a name and a network.
func (r ConnectRule) String() string {
	host, port := "*", "*"
	switch {
	case r.Name != "" && r.Network.IsValid():
		host = r.Name + " in " + networkString(r.Network)
	case r.Name != "":
		host = r.Name
	case r.Network.IsValid():
		host = networkString(r.Network)
	}
	if r.Port != 0 {
		port = strconv.Itoa(int(r.Port))
	}
	return host + ":" + port
}

func networkString(p netip.Prefix) string {
	s := p.String()
	if p.IsSingleIP() {
		s = p.Addr().String()
	}
	if p.Addr().Is6() {
		s = "[" + s + "]"
	}
	return s
}

// Matches reports whether an address is of the network and the port of the rule. Its name is not looked at.
func (r ConnectRule) Matches(to netip.AddrPort) bool {
	return (r.Port == 0 || r.Port == to.Port()) && (!r.Network.IsValid() || r.Network.Contains(to.Addr().Unmap()))
}

// Intersect returns the addresses that both rules have, and false if there are none.
func (r ConnectRule) Intersect(o ConnectRule) (ConnectRule, bool) {
	if r.Name == "" {
		r.Name = o.Name
	}
	if r.Port == 0 {
		r.Port = o.Port
	}
	if o.Name != "" && o.Name != r.Name || o.Port != 0 && o.Port != r.Port {
		return ConnectRule{}, false
	}
	switch {
	case !o.Network.IsValid():
	case !r.Network.IsValid():
		r.Network = o.Network
	case !r.Network.Overlaps(o.Network):
		return ConnectRule{}, false
	case o.Network.Bits() > r.Network.Bits():
		r.Network = o.Network
	}
	return r, true
}

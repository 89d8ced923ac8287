package main

import (
	"cmp"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/towpath-dataplane/towpath/sdk"
)

// Values of kafka.security.protocol.
const (
	protocolPlain     = "PLAINTEXT"
	protocolTLS       = "SSL"
	protocolSASLPlain = "SASL_PLAINTEXT"
	protocolSASLTLS   = "SASL_SSL"
)

const defaultClientID = "towpath"

// target is the cluster and topic that a data address names.
type target struct {
	servers   []string // host:port
	tls       bool
	mechanism sasl.Mechanism // nil if there is none
	clientID  string
	topic     string
}

// addressReader collects what is wrong with an address.
type addressReader struct {
	address sdk.DataAddress
	errs    []sdk.FieldError
}

func (r *addressReader) fail(field, message string) {
	r.errs = append(r.errs, sdk.FieldError{Field: field, Message: message})
}

// target reads what the addresses of sources and sinks have in common.
func (r *addressReader) target() *target {
	t := r.cluster()
	t.topic = r.address.Get("topic")
	switch {
	case t.topic == "":
		r.fail("topic", "is required")
	case !isTopic(t.topic):
		r.fail("topic", "is not the name of a topic")
	}
	return t
}

func (r *addressReader) cluster() *target {
	t := &target{clientID: cmp.Or(r.address.Get("kafka.client.id"), defaultClientID)}
	t.servers = r.servers()
	t.mechanism = r.mechanism()
	protocol := r.address.Get("kafka.security.protocol")
	switch {
	case protocol == "":
		t.tls = true
	case t.mechanism == nil && strings.HasPrefix(protocol, "SASL"):
		r.fail("kafka.sasl.mechanism", "is required with "+protocol)
	case t.mechanism != nil && !strings.HasPrefix(protocol, "SASL"):
		r.fail("kafka.security.protocol", "has to be SASL_SSL or SASL_PLAINTEXT with a mechanism")
	default:
		t.tls = strings.HasSuffix(protocol, "SSL")
	}
	return t
}

func (r *addressReader) servers() []string {
	field, list := "kafka.bootstrap.servers", r.address.Get("kafka.bootstrap.servers")
	if list == "" {
		list = strings.TrimPrefix(r.address.Endpoint, "kafka://")
	}
	if list == "" {
		r.fail(field, "is required")
		return nil
	}
	var servers []string
	for server := range strings.SplitSeq(list, ",") {
		server = strings.TrimSpace(server)
		host, port, err := net.SplitHostPort(server)
		n, portErr := strconv.ParseUint(port, 10, 16)
		u, urlErr := url.Parse("//" + server)
		if err != nil || portErr != nil || n == 0 || host == "" || urlErr != nil || u.Host != server {
			r.fail(field, "is not a list of host:port")
			return nil
		}
		servers = append(servers, server)
	}
	return servers
}

func (r *addressReader) mechanism() sasl.Mechanism {
	name := r.address.Get("kafka.sasl.mechanism")
	user, password := r.credentials()
	token := strings.TrimPrefix(r.address.Get("authorization"), "Bearer ")
	switch name {
	case "":
		if user != "" || password != "" || token != "" {
			r.fail("kafka.sasl.mechanism", "is required with credentials")
		}
		return nil
	case "OAUTHBEARER":
		if token == "" {
			r.fail("authorization", "is required with OAUTHBEARER")
		}
		return oauth.Auth{Token: token}.AsMechanism()
	}
	if user == "" || password == "" {
		r.fail("password", "is required with "+name+", as is username; or both in kafka.sasl.jaas.config")
	}
	switch name {
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	default:
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	}
}

// jaasOption is an option of a login module. Quotes inside are escaped.
var jaasOption = regexp.MustCompile(`\b(username|password)\s*=\s*"((?:[^"\\]|\\.)*)"`)

var jaasEscapes = regexp.MustCompile(`\\(.)`)

func (r *addressReader) credentials() (user, password string) {
	user, password = r.address.Get("username"), r.address.Get("password")
	jaas := r.address.Get("kafka.sasl.jaas.config")
	if jaas == "" {
		return user, password
	}
	options := jaasOption.FindAllStringSubmatch(jaas, -1)
	if len(options) != 2 || user != "" || password != "" {
		r.fail("kafka.sasl.jaas.config", "has to have one username and one password in quotes, and stands for the properties of these names")
		return "", ""
	}
	for _, o := range options {
		if value := jaasEscapes.ReplaceAllString(o[2], "$1"); o[1] == "username" {
			user = value
		} else {
			password = value
		}
	}
	return user, password
}

// isTopic reports whether brokers take a name.
func isTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 249 {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/host/config"
)

// defaultAdmin is where a host that says nothing else serves its admin API.
const defaultAdmin = "http://127.0.0.1:18082"

// answerTimeout bounds everything that is asked of the admin API but data.
const answerTimeout = 30 * time.Second

// adminFlags say which host to ask, and prove who asks.
type adminFlags struct{ url, config, token, tokenFile, ca, certificate, key *string }

func addAdminFlags(fs *flag.FlagSet) adminFlags {
	return adminFlags{
		url:         fs.String("admin", os.Getenv("TOWPATH_ADMIN_URL"), "`URL` of the host's admin API; also from TOWPATH_ADMIN_URL (default "+defaultAdmin+")"),
		config:      fs.String("config", "", "take the URL and the token from this HCL `file` or directory instead"),
		token:       fs.String("admin-token", "", "`token` of the admin API; better from TOWPATH_ADMIN_TOKEN, since others see the arguments of commands"),
		tokenFile:   fs.String("admin-token-file", "", "`file` with the token of the admin API"),
		ca:          fs.String("ca", "", "PEM `file` with the authorities to trust, for an admin API with a certificate of one's own"),
		certificate: fs.String("cert", "", "PEM `file` with the certificate to show, for an admin API that asks for one"),
		key:         fs.String("key", "", "PEM `file` with the key of that certificate"),
	}
}

// adminAt are the flags of nobody but a configuration.
func adminAt(path string) adminFlags {
	none := ""
	return adminFlags{url: &none, config: &path, token: &none, tokenFile: &none, ca: &none, certificate: &none, key: &none}
}

func contextFlag(fs *flag.FlagSet) *string {
	return fs.String("context", "", "participant `context` (default \"default\")")
}

// inContext is the query for a participant context.
func inContext(participant string) url.Values {
	if participant == "" {
		return url.Values{}
	}
	return url.Values{"context": {participant}}
}

// get asks the admin API and decodes its answer.
func (a adminFlags) get(ctx context.Context, path string, query url.Values, into any) error {
	_, err := a.call(ctx, http.MethodGet, path, query, nil, into)
	return err
}

// call asks the admin API and decodes its answer, unless into is nil.
func (a adminFlags) call(ctx context.Context, method, path string, query url.Values, body io.Reader, into any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := a.do(ctx, method, path, query, body)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if into == nil {
		return resp.StatusCode, nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return 0, fmt.Errorf("read the host's answer: %w", err)
	}
	return resp.StatusCode, nil
}

// do asks the admin API, and returns an answer that is no refusal.
func (a adminFlags) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	to, err := a.target()
	if err != nil {
		return nil, err
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, to.base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if to.token != "" {
		req.Header.Set("Authorization", "Bearer "+to.token)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig, transport.DisableKeepAlives = to.tls, true // there is one request
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the host (does it run? -admin or -config say where): %w", err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refused(resp)
}

// refused is the error that an answer stands for.
func refused(resp *http.Response) error {
	var p admin.Problem
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p); p.Detail == "" {
		p.Detail = resp.Status
	}
	switch err := errors.New(plain(p.Detail)); resp.StatusCode {
	case http.StatusNotFound:
		return errNotFound{err}
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: TOWPATH_ADMIN_TOKEN, -admin-token-file or -config give it", err)
	default:
		return err
	}
}

// target is an admin API.
type target struct {
	base  string
	token string
	tls   *tls.Config
}

func (a adminFlags) target() (target, error) {
	t := target{base: cmp.Or(strings.TrimRight(*a.url, "/"), defaultAdmin), tls: &tls.Config{}}
	if *a.config != "" {
		cfg, err := config.Load(*a.config)
		if err != nil {
			return t, err
		}
		if err := t.configure(cfg, *a.url == ""); err != nil {
			return t, err
		}
	}
	if u, err := url.Parse(t.base); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return t, fmt.Errorf("-admin: %q is no http or https URL", t.base)
	}
	t.token = cmp.Or(os.Getenv("TOWPATH_ADMIN_TOKEN"), t.token)
	if *a.tokenFile != "" {
		text, err := os.ReadFile(*a.tokenFile)
		if err != nil {
			return t, fmt.Errorf("admin token: %w", err)
		}
		t.token = strings.TrimSpace(string(text))
	}
	t.token = cmp.Or(*a.token, t.token)
	if strings.ContainsFunc(t.token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return t, errors.New("the admin token has characters that no token has")
	}
	return t, a.secure(&t)
}

// configure takes what a configuration says of its host's admin API: the token, and where it is if that is not known.
func (t *target) configure(cfg *config.Config, where bool) error {
	t.token = adminToken(cfg)
	if !where {
		return nil
	}
	listener := cfg.Admin
	t.base = "http://" + reachable(listener.Address)
	if listener.TLS == nil {
		return nil
	}
	t.base = "https://" + reachable(listener.Address)
	// The host's own certificate is as good as one of an authority.
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	t.tls.RootCAs = pool
	return addAuthorities(pool, listener.TLS.Certificate)
}

// reachable is where to find what listens at an address: one that stands for all interfaces is none to go to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// secure adds what the flags say of TLS.
func (a adminFlags) secure(t *target) (err error) {
	if *a.ca != "" {
		if t.tls.RootCAs, err = loadAuthorities(*a.ca); err != nil {
			return fmt.Errorf("authorities: %w", err)
		}
	}
	if *a.certificate == "" && *a.key == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(*a.certificate, cmp.Or(*a.key, *a.certificate))
	if err != nil {
		return fmt.Errorf("certificate to show: %w", err)
	}
	t.tls.Certificates = []tls.Certificate{pair}
	return nil
}

// adminToken is the token of the admin API, "" if it needs none.
func adminToken(cfg *config.Config) string { return cfg.Admin.Token.Reveal() }

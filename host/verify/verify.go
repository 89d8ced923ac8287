// Package verify proves a plugin from outside: it launches the binary as a host does, speaks the plugin protocol to it, and checks what
// the protocol promises. It needs neither the plugin's source nor its language; a Spec says which data addresses the suite may use.
//
// The package knows nothing of flows, datasets, control planes or configuration files of a host.
package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	pluginv1 "github.com/towpath-dataplane/towpath/proto/towpath/plugin/v1"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Version of the suite. It rises when a check is added or becomes stricter.
const Version = "1.0.0"

// Options say what is verified, and how patiently.
type Options struct {
	Binary string // path of the executable
	Spec   *Spec  // which addresses the suite may use; nil: none
	// HostVersion is told to the plugin.
	HostVersion string
	// Only, if not empty, are patterns of the identifiers of the checks that run, as "source.*".
	Only []string
	// Patience is how long a check may take, and most of what it waits for. 0: 60 seconds.
	Patience time.Duration
	// Progress, if not nil, is called with each result as it comes.
	Progress func(Result)

	subject string // for tests: only what is about this
}

// Run verifies a plugin. The error is for what keeps the suite from running at all; what is wrong with the plugin is in the report.
// When it returns, nothing is left of the processes it has launched.
func Run(ctx context.Context, o Options) (*Report, error) {
	s, err := newSuite(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.close()
	report := &Report{Suite: Version, Binary: s.binary, SHA256: s.digest, Started: time.Now().UTC().Truncate(time.Second)}
	for _, c := range checks() {
		for _, t := range s.trials(c) {
			if o.subject != "" && t.subject != o.subject {
				continue
			}
			result := s.try(ctx, c, t)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			report.Checks = append(report.Checks, result)
			if o.Progress != nil {
				o.Progress(result)
			}
		}
	}
	if s.description != nil {
		report.Plugin, report.Version = s.description.Name, s.description.Version
	}
	report.finish()
	return report, nil
}

// check is one promise of the protocol.
type check struct {
	id       string // stable
	title    string
	contract string // where the promise is made
	advice   string // what to do if it fails
	about    about
	run      func(t *trial) error
}

// about says what a check is tried on.
type about int

const (
	aboutPlugin  about = iota // once
	aboutSources              // each source type of the plugin
	aboutSinks                // each sink type
)

// notApplicable is the error of a check that has nothing to say about a plugin.
type notApplicable struct{ why string }

func (n notApplicable) Error() string { return n.why }

func skipf(format string, args ...any) error { return notApplicable{fmt.Sprintf(format, args...)} }

// suite is one run over one binary.
type suite struct {
	Options
	binary string // absolute
	digest string
	spec   *Spec
	root   string            // of everything the suite lays
	dir    string            // ${dir} of the Spec
	mark   string            // in the environment of everything it launches
	added  map[string]string // to the environment, by the Spec

	shared      *process // configured; nil until it is needed, and after it has ended
	description *pluginv1.DescribeResponse
	described   error
	launches    int
	flows       int
	readings    map[string]*reading // whole ones, by address

	pinger     chan error // what processKeepalive has found; nil: it was not tried
	stopPinger context.CancelFunc
	pinging    sync.WaitGroup
}

func newSuite(ctx context.Context, o Options) (*suite, error) {
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	s := &suite{Options: o, spec: o.Spec, readings: map[string]*reading{}}
	if s.spec == nil {
		s.spec = &Spec{}
	}
	var err error
	if s.binary, err = filepath.Abs(o.Binary); err != nil {
		return nil, err
	}
	if s.digest, err = digestFile(s.binary); err != nil {
		return nil, fmt.Errorf("read the binary: %w", err)
	}
	for _, pattern := range o.Only {
		if !slices.ContainsFunc(checks(), func(c check) bool { return matches(pattern, c.id) }) {
			return nil, fmt.Errorf("no check is called %q", pattern)
		}
	}
	if s.root, err = os.MkdirTemp(shortTemp(), "tpv"); err != nil {
		return nil, fmt.Errorf("make a folder for the suite: %w", err)
	}
	s.dir, s.mark = filepath.Join(s.root, "dir"), filepath.Base(s.root)
	if err = s.spec.lay(s.dir); err == nil {
		s.added, err = s.spec.variables()
	}
	if err != nil {
		os.RemoveAll(s.root)
		return nil, err
	}
	s.describe(ctx)
	if s.described == nil && s.selected("process.keepalive") {
		s.startPinger(ctx)
	}
	return s, nil
}

// shortTemp is a folder for temporary files whose path leaves room for that of a unix socket. "": the system's.
func shortTemp() string {
	if len(os.TempDir()) > 40 {
		return "/tmp"
	}
	return ""
}

func digestFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// describe asks the plugin what it is, for the checks that need to know.
func (s *suite) describe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	p, err := s.launch(ctx, launchOptions{})
	if err != nil {
		s.described = err
		return
	}
	defer p.end()
	s.description, err = p.plugin.Describe(ctx, &pluginv1.DescribeRequest{HostVersion: s.HostVersion})
	if err != nil {
		s.described = fmt.Errorf("describe: %w", p.explain(err))
	}
}

func (s *suite) close() {
	if s.pinger != nil {
		s.stopPinger()
		s.pinging.Wait()
	}
	if s.shared != nil {
		s.shared.end()
	}
	removeAll(s.root)
}

// removeAll removes a tree in which a plugin may have made folders that cannot be written to.
func removeAll(path string) {
	if os.RemoveAll(path) == nil {
		return
	}
	filepath.WalkDir(path, func(p string, e os.DirEntry, _ error) error {
		if e != nil && e.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	os.RemoveAll(path)
}

// trial is one check on one subject.
type trial struct {
	*suite
	ctx     context.Context
	source  *Source               // of the Spec; nil if it has none of this type
	sink    *Sink                 // likewise
	typ     *pluginv1.AddressType // nil for a check about the plugin
	subject string
	own     []*process
}

// selected says whether a check is to run.
func (s *suite) selected(id string) bool {
	return len(s.Only) == 0 || slices.ContainsFunc(s.Only, func(p string) bool { return matches(p, id) })
}

// trials returns what a check is tried on.
func (s *suite) trials(c check) []*trial {
	if !s.selected(c.id) {
		return nil
	}
	switch c.about {
	case aboutSources:
		var all []*trial
		for _, typ := range s.description.GetSourceTypes() {
			all = append(all, &trial{suite: s, typ: typ, subject: "source " + typ.Type, source: s.spec.source(typ.Type)})
		}
		return all
	case aboutSinks:
		var all []*trial
		for _, typ := range s.description.GetSinkTypes() {
			all = append(all, &trial{suite: s, typ: typ, subject: "sink " + typ.Type, sink: s.spec.sink(typ.Type)})
		}
		return all
	}
	return []*trial{{suite: s, subject: "plugin"}}
}

// matches says whether a pattern names a check: "*" stands for any text.
func matches(pattern, id string) bool {
	expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$"
	ok, err := regexp.MatchString(expression, id)
	return ok && err == nil
}

// try runs one check.
func (s *suite) try(ctx context.Context, c check, t *trial) Result {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.Patience, fmt.Errorf("it was not done within %s", s.Patience))
	defer cancel()
	t.ctx = ctx
	err := t.run(c)
	for _, p := range t.own {
		p.end()
	}
	r := Result{ID: c.id, Title: c.title, Subject: t.subject, Contract: c.contract, Outcome: Passed,
		Seconds: float64(time.Since(began).Milliseconds()) / 1000}
	var na notApplicable
	switch {
	case errors.As(err, &na):
		r.Outcome, r.Reason = NotApplicable, na.why
	case err != nil:
		r.Outcome, r.Reason, r.Advice = Failed, err.Error(), c.advice
	}
	return r
}

// run runs a check, and then sees whether the process that others use too has survived it.
func (t *trial) run(c check) error {
	if t.described != nil && c.id != "handshake.line" && !strings.HasPrefix(c.id, "handshake.") {
		return skipf("the plugin cannot be used: see handshake.line and describe.answers")
	}
	err := c.run(t)
	if err == nil || errors.As(err, new(notApplicable)) {
		if t.shared != nil && t.shared.hasEnded() {
			err = fmt.Errorf("the plugin's process ended: %s", t.shared.exit())
		}
	} else if t.shared != nil && !t.shared.hasEnded() && t.ctx.Err() != nil {
		t.shared.end() // whatever it hangs in is not the next check's
	}
	if t.shared != nil && t.shared.hasEnded() {
		t.shared.end()
		t.shared = nil
	}
	return err
}

// plugin returns the configured process that checks share.
func (t *trial) plugin() (*process, error) {
	if t.shared == nil {
		p, err := t.start()
		if err != nil {
			return nil, err
		}
		t.shared = p
	}
	return t.shared, nil
}

// fresh returns a configured process for this check alone.
func (t *trial) fresh() (*process, error) {
	p, err := t.start()
	if err == nil {
		t.own = append(t.own, p)
	}
	return p, err
}

// start launches and configures a process.
func (s *suite) start(ctx context.Context) (*process, error) {
	p, err := s.launch(ctx, launchOptions{})
	if err != nil {
		return nil, err
	}
	config, err := s.config()
	if err == nil {
		_, err = p.plugin.Configure(ctx, &pluginv1.ConfigureRequest{ConfigJson: config, ScratchDir: p.scratch})
	}
	if err != nil {
		p.end()
		return nil, fmt.Errorf("configure: %w", p.explain(err))
	}
	return p, nil
}

func (t *trial) start() (*process, error) { return t.suite.start(t.ctx) }

// newFlow returns a flow that no other check has.
func (s *suite) newFlow() *pluginv1.FlowContext {
	s.flows++
	return &pluginv1.FlowContext{ParticipantContext: "default", Id: fmt.Sprintf("verify-%s-%d", s.mark, s.flows),
		ParticipantId: "did:web:provider.example", CounterpartyId: "did:web:consumer.example", AgreementId: "agreement-1",
		DatasetId: "dataset-1", Profile: "verify"}
}

func addressToProto(a sdk.DataAddress) *pluginv1.DataAddress {
	return &pluginv1.DataAddress{Type: a.Type, Endpoint: a.Endpoint, Properties: a.Properties}
}

package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// breachesOf says by which breach of the plugin broken each check is shown to fail, about what, and with what in the reason.
var breachesOf = []struct{ check, subject, breach, reason string }{
	{"handshake.line", "plugin", "noise-before", "Loading, please wait"},
	{"handshake.line", "plugin", "no-output", "it ended before it said where it listens: exit status 3"},
	{"handshake.line", "plugin", "not-a-socket", "not on a unix socket"},
	{"handshake.line", "plugin", "other-version", `version "99"`},
	{"handshake.cookie", "plugin", "cookieless", "it"},
	{"describe.answers", "plugin", "bad-name", `"Bad_Name"`},
	{"describe.same", "plugin", "moody", "another than before"},
	{"describe.services", "plugin", "no-sinks", "does not serve DataSink.Validate"},
	{"schema.fields", "plugin", "bad-default", `"maybe" is not true or false`},
	{"configure.accepts", "plugin", "refuses-config", "configure"},
	{"configure.required", "plugin", "any-config", `a configuration without "dir" was accepted`},
	{"configure.garbage", "plugin", "config-crash", "exit status 5"},
	{"health.idle", "plugin", "never-well", "NOT_SERVING"},
	{"source.validate", "source Box", "validates-once", "second time"},
	{"source.schema.required", "source Box", "validates-nothing", `Validate accepts an address without "path"`},
	{"source.schema.kinds", "source Box", "validates-nothing", "which is a size"},
	{"source.schema.defaults", "source Box", "hates-defaults", "is not liked"},
	{"source.schema.unknown", "source Box", "validates-nothing", "no field names"},
	{"source.schema.sensitive", "source Box", "tells-secrets", "in what it prints"},
	{"source.type", "source Box", "any-type", "Validate of another type was refused with a status"},
	{"source.whole", "source Box", "wrong-size", "ends with"},
	{"source.whole", "source Box", "wrong-total", "End counts"},
	{"source.whole", "source Box", "no-end", "without End or Error"},
	{"source.whole", "source Box", "wrong-digest", "what came has"},
	{"source.twice", "source Box", "never-the-same", "other content than before"},
	{"source.digests", "source Box", "no-digests", "without CRC32C"},
	{"source.one-byte", "source Box", "no-small-parts", "off-by-one"},
	{"source.one-mebibyte", "source Box", "no-full-frames", "off-by-one"},
	{"source.odd-sizes", "source Box", "no-odd-parts", "4097 bytes: "},
	{"source.odd-sizes", "source Box", "empty-frames", "a data frame of 0 bytes"},
	{"source.many", "source Box", "a-thousand-at-most", "too many parts"},
	{"source.records", "source Tape", "miscounts-records", "says"},
	{"source.list", "source Box", "lists-content", "only to be listed"},
	{"source.select", "source Box", "selects-all", "alone"},
	{"source.select", "source Box", "selects-whole", "begins at 0"},
	{"source.skip", "source Box", "skips-nothing", "without part"},
	{"source.checkpoints", "source Box", "begins-again", "and not"},
	{"source.checkpoints", "source Box", "no-checkpoints", "it gave no checkpoint"},
	{"source.killed", "source Box", "forgets-when-killed", "and not"},
	{"source.token", "source Box", "any-token", "was accepted"},
	{"source.missing", "source Box", "vague-errors", "UNSPECIFIED"},
	{"source.stalled", "source Box", "hoards", "it grew from"},
	{"source.beside", "source Box", "alone", "while another flow stalls"},
	{"source.health", "source Box", "uncounted", "Health counts 0 flows"},
	{"source.cancel", "source Box", "uncut", "Health counts"},
	{"source.order", "source Box", "no-open", "was accepted"},
	{"source.garbage", "source Box", "crashes", "nil pointer dereference"},
	{"source.quiet", "source Box", "talks", "on standard error while one flow passed"},
	{"source.quiet", "source Box", "talks-on-stdout", "on standard output"},
	{"source.lane", "source Box", "half-a-lane", "lane"},
	{"source.answers", "source Box", "answers-once", "has index"},
	{"source.term", "source Box", "hasty", "neither sent to its end nor ended with Error"},
	{"source.drain", "source Box", "undrained", "at its deadline that 0 are left"},
	{"sink.validate", "sink Box", "validates-once", "second time"},
	{"sink.schema.required", "sink Box", "validates-nothing", `Validate accepts an address without "path"`},
	{"sink.schema.kinds", "sink Box", "validates-nothing", "which is one of"},
	{"sink.schema.defaults", "sink Box", "hates-defaults", "is not liked"},
	{"sink.schema.unknown", "sink Box", "validates-nothing", "no field names"},
	{"sink.schema.sensitive", "sink Box", "tells-secrets", "in what it prints"},
	{"sink.type", "sink Box", "any-type", "Validate of another type was refused with a status"},
	{"sink.whole", "sink Box", "no-receipts", "there is no PartWritten for part 0"},
	{"sink.whole", "sink Box", "nothing-durable", "not answered with Durable"},
	{"sink.round-trip", "sink Box", "spoils", "other content than before"},
	{"sink.one-byte", "sink Box", "no-small-parts", "Error"},
	{"sink.one-mebibyte", "sink Box", "no-full-frames", "Error"},
	{"sink.odd-sizes", "sink Box", "no-odd-parts", "Error"},
	{"sink.many", "sink Box", "a-thousand-at-most", "Error"},
	{"sink.records", "sink Void", "miscounts-records", "WriteDone counts"},
	{"sink.digests", "sink Box", "trusts-digests", "a part with a wrong CRC32C was accepted"},
	{"sink.sizes", "sink Box", "trusts-sizes", "a part that is shorter than PartEnd says was accepted"},
	{"sink.order", "sink Box", "always-done", "was accepted"},
	{"sink.names", "sink Box", "any-name", "was accepted"},
	{"sink.oversized", "sink Box", "any-frame", "a byte was accepted"},
	{"sink.cancel", "sink Box", "uncut", "Health counts"},
	{"sink.invisible", "sink Box", "shows-halves", "is visible under its name"},
	{"sink.killed", "sink Box", "forgets-when-killed", "gone on from part 1"},
	{"sink.repeated", "sink Box", "never-again", "this flow is done"},
	{"sink.token", "sink Box", "any-token", "was accepted"},
	{"sink.missing", "sink Box", "vague-errors", "UNSPECIFIED"},
	{"sink.health", "sink Box", "uncounted", "Health counts 0 flows"},
	{"sink.deprovision", "sink Box", "strange-deprovision", "that it never saw"},
	{"sink.provision", "sink Box", "provisions-secretly", "does not say that it provisions"},
	{"sink.provision", "sink Box", "provisions-anew", "another address the second time"},
	{"sink.garbage", "sink Box", "crashes", "nil pointer dereference"},
	{"sink.quiet", "sink Box", "talks", "on standard error while one flow passed"},
	{"sink.lane", "sink Box", "half-a-lane", "lane"},
	{"sink.term", "sink Box", "hasty", "neither taken to its end nor ended with Error"},
	{"garbage.unknown-fields", "plugin", "fears-the-future", "field of a later version"},
	{"garbage.malformed", "plugin", "takes-anything", "was accepted"},
	{"garbage.malformed", "plugin", "dies-of-garbage", "exit status 6"},
	{"garbage.oversized", "plugin", "takes-all-sizes", "24 MiB to /towpath.plugin.v1.Plugin/Describe was accepted"},
	{"garbage.methods", "plugin", "knows-all-methods", "gives the status OK"},
	{"process.term", "plugin", "deaf-to-term", "after SIGTERM its process still ran"},
	{"process.keepalive", "plugin", "hates-pings", "too_many_pings"},
	{"process.drain", "plugin", "undrained", "after Drain, Health says"},
	{"process.children", "plugin", "breeds", "(sleep 60)"},
	{"host.runs", "plugin", "fears-tls", "a certificate!"},
}

// Every check is shown to fail on a plugin that breaks what it is for.
func TestBroken(t *testing.T) {
	t.Parallel()
	binary := build(t, "host/verify/broken")
	for _, b := range breachesOf {
		t.Run(b.check+"/"+b.breach, func(t *testing.T) {
			t.Parallel()
			r := verify(t, called(t, binary, b.breach), "broken", Options{Only: []string{b.check}, subject: b.subject}, nil)
			for _, c := range r.Checks {
				if c.Subject == b.subject && c.Outcome == Failed && strings.Contains(c.Reason, b.reason) && c.Advice != "" {
					return
				}
			}
			t.Errorf("want a failure about %s with %q, got %+v", b.subject, b.reason, r.Checks)
		})
	}
}

// called returns the binary under another name.
func called(t *testing.T, binary, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "towpath-plugin-"+name)
	if err := os.Link(binary, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The table above leaves no check out, and the plugin without a breach passes all: none is not applicable to it.
func TestSound(t *testing.T) {
	t.Parallel()
	shown := map[string]bool{}
	for _, b := range breachesOf {
		shown[b.check] = true
	}
	for _, c := range checks() {
		if !shown[c.id] {
			t.Errorf("nothing shows that %s can fail", c.id)
		}
	}
	r := verify(t, called(t, build(t, "host/verify/broken"), "sound"), "broken", Options{}, nil)
	applied := map[string]bool{}
	for _, c := range r.Checks {
		if c.Outcome == Failed {
			t.Errorf("%s (%s): %s", c.ID, c.Subject, c.Reason)
		}
		if c.Outcome == Passed {
			applied[c.ID] = true
		}
	}
	for _, c := range checks() {
		if !applied[c.id] {
			t.Errorf("%s applies to nothing", c.id)
		}
	}
}

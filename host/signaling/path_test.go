package signaling

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/host/flow"
)

func TestParsePath(t *testing.T) {
	tests := []struct {
		path    string
		want    endpoint // zero: there is no such endpoint
		strict  bool     // whether it is there strictly, too
		problem bool     // the id is not valid
	}{
		{path: "/dataflows/prepare", want: endpoint{opPrepare, ""}, strict: true},
		{path: "/dataflows/start", want: endpoint{opStart, ""}, strict: true},
		{path: "/dataflows/st%61rt", want: endpoint{opStart, ""}, strict: true},
		{path: "/dataflows/f/started", want: endpoint{opStarted, "f"}, strict: true},
		{path: "/dataflows/f/suspend", want: endpoint{opSuspend, "f"}, strict: true},
		{path: "/dataflows/f/resume", want: endpoint{opResume, "f"}, strict: true},
		{path: "/dataflows/f/terminate", want: endpoint{opTerminate, "f"}, strict: true},
		{path: "/dataflows/f/completed", want: endpoint{opCompleted, "f"}, strict: true},
		{path: "/dataflows/f/status", want: endpoint{opStatus, "f"}, strict: true},
		{path: "/dataflows/a%2Fb/status", want: endpoint{opStatus, "a/b"}, strict: true},
		{path: "/dataflows/a%252Fb/status", want: endpoint{opStatus, "a%2Fb"}, strict: true},
		{path: "/dataflows/urn:uuid:1/status", want: endpoint{opStatus, "urn:uuid:1"}, strict: true},
		{path: "/dataflows/a%20+b/status", want: endpoint{opStatus, "a +b"}, strict: true},
		{path: "/dataflows/start/status", want: endpoint{opStatus, "start"}, strict: true},
		{path: "/dataflows/dataflows/status", want: endpoint{opStatus, "dataflows"}, strict: true},
		{path: "/dataflows/.../status", want: endpoint{opStatus, "..."}, strict: true},

		// older drafts
		{path: "/dataflows/f", want: endpoint{opStatus, "f"}},
		{path: "/dataflows/suspend", want: endpoint{opStatus, "suspend"}},
		{path: "/dataflows/f/start", want: endpoint{opStarted, "f"}},
		{path: "/dataflows/f/complete", want: endpoint{opCompleted, "f"}},
		// the endpoint that was registered ends in /dataflows, or does not
		{path: "/dataflows/dataflows/start", want: endpoint{opStart, ""}},
		{path: "/dataflows/dataflows/f/suspend", want: endpoint{opSuspend, "f"}},
		{path: "/dataflows/dataflows/f/start", want: endpoint{opStarted, "f"}},
		{path: "/dataflows/dataflows/f", want: endpoint{opStatus, "f"}},
		{path: "/prepare", want: endpoint{opPrepare, ""}},
		{path: "/f/suspend", want: endpoint{opSuspend, "f"}},
		{path: "/f/complete", want: endpoint{opCompleted, "f"}},

		{path: ""},
		{path: "/"},
		{path: "/f"},
		{path: "/dataflows"},
		{path: "/dataflows/"},
		{path: "/dataflows/f/"},
		{path: "/dataflows/f/status/"},
		{path: "/dataflows/f/x"},
		{path: "/dataflows/f/a/b/suspend"},
		{path: "/dataflows/dataflows/dataflows/f/suspend"},
		{path: "/dataflowsf/start/x"},

		{path: "/dataflows//status", want: endpoint{opStatus, ""}, problem: true},
		{path: "/dataflows/%2e%2E/status", want: endpoint{opStatus, ""}, problem: true},
		{path: "/dataflows/./terminate", want: endpoint{opTerminate, ""}, problem: true},
		{path: "/dataflows/a%00b/suspend", want: endpoint{opSuspend, ""}, problem: true},
		{path: "/dataflows/a%0Ab/suspend", want: endpoint{opSuspend, ""}, problem: true},
		{path: "/dataflows/%FF/suspend", want: endpoint{opSuspend, ""}, problem: true},
		{path: "/dataflows/" + strings.Repeat("x", flow.MaxID) + "/suspend", want: endpoint{opSuspend, strings.Repeat("x", flow.MaxID)}, strict: true},
		{path: "/dataflows/" + strings.Repeat("x", flow.MaxID+1) + "/suspend", want: endpoint{opSuspend, ""}, problem: true},
	}
	for _, base := range []string{"", "/api/v1"} {
		for _, tt := range tests {
			t.Run(base+tt.path, func(t *testing.T) {
				got, err := parsePath(base, base+tt.path, false)
				if got != tt.want || (err == nil) != (got.operation != "" && !tt.problem) {
					t.Errorf("got %+v, %v", got, err)
				}
				if tt.problem && !errors.As(err, new(*flow.RequestError)) {
					t.Errorf("error is %T: %v", err, err)
				}
				if got, err := parsePath(base, base+tt.path, true); !tt.problem && (got == tt.want && err == nil) != tt.strict {
					t.Errorf("strictly: got %+v, %v", got, err)
				}
			})
		}
	}
}

func TestParsePathOutsideBase(t *testing.T) {
	for _, path := range []string{"/dataflows/start", "/api/dataflows/start", "/api/v11/dataflows/start", "/api/v1"} {
		if got, err := parsePath("/api/v1", path, false); err == nil {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// FuzzParsePath: an id that is found is valid, and escaping it leads back to it.
func FuzzParsePath(f *testing.F) {
	for _, path := range []string{"/dataflows/start", "/dataflows/a%2Fb/status", "/dataflows/../status", "/f/start", "//", "/%zz", "/dataflows/dataflows/x"} {
		f.Add(path, false)
		f.Add(path, true)
	}
	f.Fuzz(func(t *testing.T, path string, strict bool) {
		to, err := parsePath("", path, strict)
		if err != nil {
			if !errors.As(err, new(*flow.RequestError)) && !errors.As(err, new(*problem)) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if creating[string(to.operation)] != "" {
			return
		}
		if why := flow.CheckID(to.id); why != "" {
			t.Fatalf("the id %q %s", to.id, why)
		}
		again, err := parsePath("", "/dataflows/"+url.PathEscape(to.id)+"/"+string(to.operation), strict)
		if err != nil || again != to {
			t.Errorf("%+v, %v; want %+v", again, err, to)
		}
	})
}

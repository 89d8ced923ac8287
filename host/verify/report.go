package verify

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Outcome is how a check ended.
type Outcome string

// The outcomes.
const (
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	NotApplicable Outcome = "not applicable"
)

// Result is what one check found about one subject.
type Result struct {
	ID       string  `json:"id"`
	Title    string  `json:"title"`
	Subject  string  `json:"subject"` // "plugin", "source TYPE", "sink TYPE"
	Contract string  `json:"contract"`
	Outcome  Outcome `json:"outcome"`
	Reason   string  `json:"reason,omitempty"` // why it failed, or is not applicable
	Advice   string  `json:"advice,omitempty"`
	Seconds  float64 `json:"seconds"`
}

// Report is what a run of the suite found. It belongs to the binary with its digest, and to no other.
type Report struct {
	Suite         string    `json:"suite"` // version of the suite
	Binary        string    `json:"binary"`
	SHA256        string    `json:"sha256"`
	Plugin        string    `json:"plugin,omitempty"`
	Version       string    `json:"version,omitempty"`
	Started       time.Time `json:"started"`
	Seconds       float64   `json:"seconds"`
	Passed        int       `json:"passed"`
	Failed        int       `json:"failed"`
	NotApplicable int       `json:"notApplicable"`
	Checks        []Result  `json:"checks"`
}

func (r *Report) finish() {
	for _, c := range r.Checks {
		r.Seconds += c.Seconds
		switch c.Outcome {
		case Passed:
			r.Passed++
		case Failed:
			r.Failed++
		case NotApplicable:
			r.NotApplicable++
		}
	}
	r.Seconds = float64(int(r.Seconds*1000)) / 1000
}

// OK says whether no check failed, and some passed.
func (r *Report) OK() bool { return r.Failed == 0 && r.Passed > 0 }

// WriteJSON writes the report to be kept beside the binary.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%s %s  %s\nsha256 %s, suite %s\n\n", dash(r.Plugin), dash(r.Version), r.Binary, r.SHA256, r.Suite)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RESULT\tCHECK\tSUBJECT\tSECONDS\tWHAT")
	for _, c := range r.Checks {
		what := c.Title
		if c.Outcome == NotApplicable {
			what += " (" + oneLine(c.Reason) + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.1f\t%s\n", short(c.Outcome), c.ID, c.Subject, c.Seconds, what)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range r.Checks {
		if c.Outcome == Failed {
			fmt.Fprintf(w, "\nFAILED %s (%s): %s\n  found     %s\n  contract  %s\n  what to do  %s\n", c.ID, c.Subject, c.Title, oneLine(c.Reason),
				c.Contract, c.Advice)
		}
	}
	_, err := fmt.Fprintf(w, "\n%d passed, %d failed, %d not applicable, in %.1f seconds\n", r.Passed, r.Failed, r.NotApplicable, r.Seconds)
	return err
}

func short(o Outcome) string {
	return map[Outcome]string{Passed: "pass", Failed: "FAIL", NotApplicable: "n/a"}[o]
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// The elements of JUnit's XML, as CI systems read it.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Skipped *junitMessage `xml:"skipped,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as JUnit XML.
func (r *Report) WriteJUnit(w io.Writer) error {
	s := junitSuite{Name: "towpath plugins verify " + dash(r.Plugin), Tests: len(r.Checks), Failures: r.Failed, Skipped: r.NotApplicable,
		Time: seconds(r.Seconds), Timestamp: r.Started.Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{{"suite", r.Suite}, {"sha256", r.SHA256}, {"plugin", r.Plugin}, {"version", r.Version}}}
	for _, c := range r.Checks {
		test := junitCase{Class: c.Subject, Name: c.ID + ": " + c.Title, Time: seconds(c.Seconds)}
		switch c.Outcome {
		case Failed:
			test.Failure = &junitMessage{c.Reason, "contract: " + c.Contract + "\nwhat to do: " + c.Advice}
		case NotApplicable:
			test.Skipped = &junitMessage{Message: c.Reason}
		}
		s.Cases = append(s.Cases, test)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(junitSuites{Suites: []junitSuite{s}}); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }

package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Error is every error of this package: all that is wrong with a configuration, in the order of files and lines. It never holds a
// value that came from secret(), nor that of an attribute that a plugin's schema calls sensitive.
type Error struct {
	// Diagnostics have a Subject each. Its Start.Line is 0 if a file or directory as a whole is meant.
	Diagnostics hcl.Diagnostics

	files map[string]*hcl.File
}

// newError returns nil if there are no diagnostics.
func newError(diags hcl.Diagnostics, files map[string]*hcl.File) error {
	if len(diags) == 0 {
		return nil
	}
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
		return cmp.Or(strings.Compare(a.Subject.Filename, b.Subject.Filename), cmp.Compare(a.Subject.Start.Byte, b.Subject.Start.Byte))
	})
	return &Error{Diagnostics: diags, files: files}
}

// Error returns a line for each diagnostic: "file:line:column: summary; detail".
func (e *Error) Error() string {
	lines := make([]string, len(e.Diagnostics))
	for i, d := range e.Diagnostics {
		lines[i] = line(d)
	}
	return strings.Join(lines, "\n")
}

func line(d *hcl.Diagnostic) string {
	text := d.Summary
	if d.Detail != "" {
		text += "; " + d.Detail
	}
	return place(*d.Subject) + ": " + strings.Join(strings.Fields(text), " ")
}

// place is a range as an operator reads it: file, line and column.
func place(at hcl.Range) string {
	if at.Start.Line == 0 {
		return at.Filename
	}
	return fmt.Sprintf("%s:%d:%d", at.Filename, at.Start.Line, at.Start.Column)
}

// Print writes the diagnostics for a terminal, each with the line of the source that it points at.
func (e *Error) Print(w io.Writer, color bool) error {
	withSource := hcl.NewDiagnosticTextWriter(w, e.files, 0, color)
	withoutSource := hcl.NewDiagnosticTextWriter(w, nil, 0, color)
	for _, d := range e.Diagnostics {
		var err error
		switch {
		case d.Subject.Start.Line == 0:
			_, err = fmt.Fprintf(w, "Error: %s\n\n", line(d))
		case d.Extra == hideSource:
			err = withoutSource.WriteDiagnostic(d)
		default:
			err = withSource.WriteDiagnostic(d)
		}
		if err != nil {
			return fmt.Errorf("print diagnostics: %w", err)
		}
	}
	return nil
}

// extra is what this package puts into hcl.Diagnostic.Extra.
type extra int

// hideSource marks a diagnostic whose line of source can hold a secret.
const hideSource extra = 1

// problem makes a diagnostic.
func problem(at hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at}
}

package flow

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxID is the longest id of a flow, a message, a dataset or a control plane, in characters.
const MaxID = 256

// CheckID says what is wrong with an id that somebody else chose, "" for nothing. Ids become path segments, keys and log lines.
func CheckID(id string) string {
	switch {
	case id == "":
		return "is empty"
	case !utf8.ValidString(id):
		return "is not UTF-8"
	case utf8.RuneCountInString(id) > MaxID:
		return fmt.Sprintf("is longer than %d characters", MaxID)
	case strings.ContainsFunc(id, unicode.IsControl):
		return "contains control characters"
	case id == "." || id == "..":
		return fmt.Sprintf("must not be %q", id)
	default:
		return ""
	}
}

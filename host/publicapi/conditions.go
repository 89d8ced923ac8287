package publicapi

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// validators are what the conditions of a request are compared with.
type validators struct {
	etag     string // strong, with its quotes; "" if there is none
	modified time.Time
}

// entityTag makes a strong ETag of a part's validator, "" of none. A validator that is no ETag in quotes is replaced by its digest.
func entityTag(validator string) string {
	if validator == "" {
		return ""
	}
	for i := range len(validator) {
		if c := validator[i]; c < 0x21 || c == '"' || c > 0x7e {
			sum := sha256.Sum256([]byte(validator))
			return `"sha256-` + hex.EncodeToString(sum[:]) + `"`
		}
	}
	return `"` + validator + `"`
}

// status evaluates the conditions of a GET or HEAD in the order of RFC 9110, section 13.2.2. It returns 0 if the request is to be
// answered, otherwise StatusNotModified or StatusPreconditionFailed.
func (v validators) status(h http.Header) int {
	if match := h.Values("If-Match"); len(match) > 0 {
		if !v.matches(match, true) {
			return http.StatusPreconditionFailed
		}
	} else if t, ok := date(h, "If-Unmodified-Since"); ok && !v.modified.IsZero() && v.modifiedAfter(t) {
		return http.StatusPreconditionFailed
	}
	if match := h.Values("If-None-Match"); len(match) > 0 {
		if v.matches(match, false) {
			return http.StatusNotModified
		}
	} else if t, ok := date(h, "If-Modified-Since"); ok && !v.modified.IsZero() && !v.modifiedAfter(t) {
		return http.StatusNotModified
	}
	return 0
}

// rangeApplies evaluates If-Range (RFC 9110, section 13.1.5): a range is given only of the content that the client has a piece of.
func (v validators) rangeApplies(h http.Header, now time.Time) bool {
	field := h.Get("If-Range")
	switch {
	case field == "":
		return true
	case strings.HasPrefix(field, `"`), strings.HasPrefix(field, "W/"):
		return v.etag != "" && field == v.etag
	}
	t, ok := date(h, "If-Range")
	// A date is a strong validator only if nothing can have changed within its second.
	return ok && !v.modified.IsZero() && v.modified.Truncate(time.Second).Equal(t) && now.Sub(t) >= 2*time.Second
}

// matches reports whether a list of entity tags names ours, or is "*". Strong comparison refuses weak tags.
func (v validators) matches(fields []string, strong bool) bool {
	for _, field := range fields {
		for rest := field; ; {
			rest = strings.TrimLeft(rest, " \t,")
			if strings.HasPrefix(rest, "*") {
				return true
			}
			tag, after, ok := nextTag(rest)
			if !ok {
				break
			}
			if !strong {
				tag = strings.TrimPrefix(tag, "W/")
			}
			if v.etag != "" && tag == v.etag {
				return true
			}
			rest = after
		}
	}
	return false
}

// nextTag splits the entity tag off the front of a list.
func nextTag(list string) (tag, rest string, ok bool) {
	start := 0
	if strings.HasPrefix(list, "W/") {
		start = 2
	}
	if !strings.HasPrefix(list[start:], `"`) {
		return "", "", false
	}
	end := strings.IndexByte(list[start+1:], '"')
	if end < 0 {
		return "", "", false
	}
	end += start + 2
	return list[:end], list[end:], true
}

// modifiedAfter compares in seconds, as HTTP dates do.
func (v validators) modifiedAfter(t time.Time) bool {
	return v.modified.Truncate(time.Second).After(t)
}

func date(h http.Header, name string) (time.Time, bool) {
	field := h.Get(name)
	if field == "" {
		return time.Time{}, false
	}
	t, err := http.ParseTime(field)
	return t, err == nil
}

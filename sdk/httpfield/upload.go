package httpfield

import (
	"net/http"
	"strconv"
	"time"

	"github.com/dunglas/httpsfv"
)

// What Resumable Uploads for HTTP adds to HTTP.
const (
	UploadComplete = "Upload-Complete"
	UploadOffset   = "Upload-Offset"
	UploadLength   = "Upload-Length"
	UploadLimit    = "Upload-Limit"
	UploadVersion  = "Upload-Draft-Interop-Version"

	// Version is the interop version of the draft.
	Version = 8
	// StatusResumptionSupported is the status of the interim answers.
	StatusResumptionSupported = 104
	// PartialUpload is the media type of what is appended to an upload.
	PartialUpload = "application/partial-upload"

	// The types of the draft's problems.
	MismatchingOffset  = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
	InconsistentLength = "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
)

// SpeaksDraft reports whether a message is of our version of the draft.
func SpeaksDraft(h http.Header) bool {
	version, ok := Count(h, UploadVersion)
	return ok && version == Version
}

// Count returns the number of bytes (or whatever else is counted) in a field. ok is false if there is none, or if it has to be ignored.
func Count(h http.Header, field string) (n int64, ok bool) {
	n, ok = single(h, field).(int64)
	if n < 0 {
		return 0, false
	}
	return n, ok
}

// Complete returns the value of Upload-Complete. ok is false if there is none, or if it has to be ignored.
func Complete(h http.Header) (complete, ok bool) {
	complete, ok = single(h, UploadComplete).(bool)
	return complete, ok
}

func single(h http.Header, field string) any {
	values := h.Values(field)
	if len(values) == 0 {
		return nil
	}
	item, err := httpsfv.UnmarshalItem(values)
	if err != nil {
		return nil
	}
	return item.Value
}

// SetCount sets a field to a number.
func SetCount(h http.Header, field string, n int64) { h.Set(field, strconv.FormatInt(n, 10)) }

// SetComplete sets Upload-Complete.
func SetComplete(h http.Header, complete bool) {
	value := "?0"
	if complete {
		value = "?1"
	}
	h.Set(UploadComplete, value)
}

// Limits are those of Upload-Limit. 0: there is none.
type Limits struct {
	MaxSize, MinSize             int64
	MaxAppendSize, MinAppendSize int64
	MaxAge                       time.Duration // whole seconds
}

// members are the limits by their names, in the order in which they are written.
func (l *Limits) members() []struct {
	name  string
	value *int64
} {
	return []struct {
		name  string
		value *int64
	}{
		{"max-size", &l.MaxSize}, {"min-size", &l.MinSize},
		{"max-append-size", &l.MaxAppendSize}, {"min-append-size", &l.MinAppendSize},
	}
}

const maxAge = "max-age"

// ParseLimits reads Upload-Limit. ok is false if there is none, or if it has to be ignored.
func ParseLimits(h http.Header) (l Limits, ok bool) {
	values := h.Values(UploadLimit)
	if len(values) == 0 {
		return Limits{}, false
	}
	dictionary, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return Limits{}, false
	}
	number := func(name string) (n int64, ok bool) {
		if _, there := dictionary.Get(name); !there {
			return 0, true
		}
		n, ok = item(dictionary, name).(int64)
		return n, ok && n >= 0
	}
	for _, m := range l.members() {
		if *m.value, ok = number(m.name); !ok {
			return Limits{}, false
		}
	}
	seconds, ok := number(maxAge)
	if !ok {
		return Limits{}, false
	}
	const most = int64(1<<63-1) / int64(time.Second)
	l.MaxAge = time.Duration(min(seconds, most)) * time.Second
	return l, true
}

// String is the value of Upload-Limit, which is never empty.
func (l Limits) String() string {
	dictionary := httpsfv.NewDictionary()
	for _, m := range l.members() {
		if *m.value > 0 || m.value == &l.MinSize {
			dictionary.Add(m.name, httpsfv.NewItem(*m.value))
		}
	}
	if l.MaxAge > 0 {
		dictionary.Add(maxAge, httpsfv.NewItem(int64(l.MaxAge/time.Second)))
	}
	return marshal(dictionary)
}

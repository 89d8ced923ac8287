package publicapi

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteRange is a piece of a part (RFC 9110, section 14.1.2).
type byteRange struct {
	offset int64
	length int64
}

// contentRange is the value of Content-Range for the piece of a part of that size.
func (b byteRange) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", b.offset, b.offset+b.length-1, size)
}

// errUnsatisfiable says that a range lies outside of the part.
var errUnsatisfiable = errors.New("the range lies outside of the part")

// parseRange reads a Range field for a part of that size. ok is false if the field is to be ignored: it is malformed, is not in bytes,
// or asks for several ranges, which the whole part answers as well.
func parseRange(field string, size int64) (r byteRange, ok bool, err error) {
	unit, spec, found := strings.Cut(field, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return byteRange{}, false, nil
	}
	first, last, found := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !found {
		return byteRange{}, false, nil
	}
	if first == "" {
		return parseSuffix(last, size)
	}
	return parseInterval(first, last, size)
}

// parseSuffix reads the n of "-n": the last n bytes.
func parseSuffix(digits string, size int64) (byteRange, bool, error) {
	n, ok := parseOffset(digits)
	switch {
	case !ok:
		return byteRange{}, false, nil
	case n == 0:
		return byteRange{}, true, errUnsatisfiable
	case size == 0:
		// Satisfiable, but Content-Range cannot say so.
		return byteRange{}, false, nil
	}
	n = min(n, size)
	return byteRange{offset: size - n, length: n}, true, nil
}

// parseInterval reads "first-last" or "first-".
func parseInterval(firstDigits, lastDigits string, size int64) (byteRange, bool, error) {
	first, ok := parseOffset(firstDigits)
	last := int64(math.MaxInt64)
	if ok && lastDigits != "" {
		last, ok = parseOffset(lastDigits)
	}
	switch {
	case !ok, last < first:
		return byteRange{}, false, nil
	case first >= size:
		return byteRange{}, true, errUnsatisfiable
	}
	last = min(last, size-1)
	return byteRange{offset: first, length: last - first + 1}, true, nil
}

// parseOffset reads digits. A number that is too large is the largest: it lies behind the end of any part.
func parseOffset(digits string) (int64, bool) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		n = math.MaxInt64
	}
	return n, true
}

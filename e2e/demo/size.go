package main

import (
	"fmt"
	"strconv"
	"strings"
)

// minSize is the least of which the middle can be hit by a suspend.
const minSize = 4 << 20

// byteSize is a flag for a number of bytes: "8388608", "8MiB".
type byteSize int64

var units = map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

func (s *byteSize) String() string { return mebibytes(int64(*s)) }

func (s *byteSize) Set(text string) error {
	number, unit := text, int64(1)
	if len(text) > 3 {
		if u, ok := units[text[len(text)-3:]]; ok {
			number, unit = strings.TrimSpace(text[:len(text)-3]), u
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a number of bytes, with KiB, MiB or GiB behind it or nothing", text)
	}
	if n < (minSize+unit-1)/unit || n > (1<<40)/unit {
		return fmt.Errorf("has to be from %s to 1 TiB", mebibytes(minSize))
	}
	*s = byteSize(n * unit)
	return nil
}

// mebibytes writes an amount of data for people.
func mebibytes(n int64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/(1<<20)), ".0") + " MiB"
}

// grouped writes an exact number for people.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

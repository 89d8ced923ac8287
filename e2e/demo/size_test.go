package main

import "testing"

func TestSizeIsRead(t *testing.T) {
	for text, want := range map[string]int64{
		"4194304": 4 << 20, "4096KiB": 4 << 20, "8MiB": 8 << 20, "256 MiB": 256 << 20, "1GiB": 1 << 30, "1024GiB": 1 << 40,
	} {
		var s byteSize
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%q: got %d, %v", text, s, err)
		}
	}
}

func TestSizeIsRefused(t *testing.T) {
	for _, text := range []string{"", "MiB", "8 MB", "8mib", "1.5GiB", "-8MiB", "0", "4194303", "3MiB", "1025GiB", "99999999999999999999GiB"} {
		s := byteSize(1)
		if err := s.Set(text); err == nil || s != 1 {
			t.Errorf("%q: got %d, %v", text, s, err)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 65536: "65,536", 268435456: "268,435,456"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: got %s", n, got)
		}
	}
	for n, want := range map[int64]string{0: "0 MiB", 1 << 20: "1 MiB", 3 << 19: "1.5 MiB", 256 << 20: "256 MiB"} {
		if got := mebibytes(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

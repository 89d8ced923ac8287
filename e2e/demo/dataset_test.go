package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLayout(t *testing.T) {
	for _, size := range []int64{minSize, minSize + 1, 8 << 20, 256 << 20, 1 << 40} {
		d := layout(size)
		names, total := []string{}, int64(0)
		for _, f := range d.files {
			if f.size < 0 {
				t.Errorf("%d: %s has %d bytes", size, f.name, f.size)
			}
			names = append(names, f.name)
			total += f.size
		}
		if total != size || d.size != size {
			t.Errorf("%d: the files have %d bytes", size, total)
		}
		if !slices.IsSorted(names) {
			t.Errorf("%q is not the order in which a folder is sent, so the largest file may not be in the middle", names)
		}
	}
}

// TestSuspendFallsIntoTheLargestFile: two fifths of all have to be behind the beginning of that file, and before its end.
func TestSuspendFallsIntoTheLargestFile(t *testing.T) {
	d := layout(minSize)
	before := int64(0)
	for _, f := range d.files {
		if f.name == largest {
			if at := d.size * 2 / 5; at <= before || at >= before+f.size {
				t.Errorf("the file has the bytes %d to %d, and the suspend comes at %d", before, before+f.size, at)
			}
			return
		}
		before += f.size
	}
	t.Errorf("there is no %s", largest)
}

func make4MiB(t *testing.T) (files string, made tree) {
	t.Helper()
	files = t.TempDir()
	if _, err := makeDataset(t.Context(), files, minSize); err != nil {
		t.Fatal(err)
	}
	made, err := readTree(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	return files, made
}

func TestDatasetIsTheSameEverywhere(t *testing.T) {
	_, first := make4MiB(t)
	_, second := make4MiB(t)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	contents := map[string]bool{}
	for _, sum := range first {
		contents[sum] = true
	}
	if len(contents) != len(layout(minSize).files) {
		t.Errorf("%d files have %d different contents: a mix-up would go unseen", len(first), len(contents))
	}
}

func TestDatasetIsReusedIfItIsRight(t *testing.T) {
	files, _ := make4MiB(t)
	path := filepath.Join(files, datasetID, filepath.FromSlash(largest))
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := makeDataset(t.Context(), files, minSize); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was made again: %v", err)
	}
}

func TestDatasetIsMadeAgainIfItIsWrong(t *testing.T) {
	one := func(dir string) string { return filepath.Join(dir, "one byte.bin") }
	for name, spoil := range map[string]func(dir string) error{
		"missing":   func(dir string) error { return os.Remove(one(dir)) },
		"longer":    func(dir string) error { return os.WriteFile(one(dir), []byte("ab"), 0o600) },
		"shorter":   func(dir string) error { return os.Truncate(one(dir), 0) },
		"other":     func(dir string) error { return flip(filepath.Join(dir, filepath.FromSlash(largest))) },
		"more":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) },
		"all gone":  func(dir string) error { return os.RemoveAll(dir) },
		"not files": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			files, want := make4MiB(t)
			if err := spoil(filepath.Join(files, datasetID)); err != nil {
				t.Fatal(err)
			}
			if _, err := makeDataset(t.Context(), files, minSize); err != nil {
				t.Fatal(err)
			}
			got, err := readTree(t.Context(), files)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

// flip changes the last byte of a file.
func flip(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	content[len(content)-1] ^= 1
	return os.WriteFile(path, content, 0o600)
}

func TestMakingCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := makeDataset(ctx, t.TempDir(), minSize); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestSameContent(t *testing.T) {
	long := strings.Repeat("x", 256<<10)
	for _, c := range []struct {
		name, a, b string
		want       bool
	}{
		{"empty", "", "", true},
		{"equal", "abc", "abc", true},
		{"one buffer", long, long, true},
		{"more than a buffer", long + "a", long + "a", true},
		{"other end", long + "a", long + "b", false},
		{"a begins as b", "abc", "abcd", false},
		{"a has a buffer more", long + long, long, false},
		{"b has a buffer more", long, long + long, false},
	} {
		if got, err := sameContent(strings.NewReader(c.a), strings.NewReader(c.b)); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v", c.name, got, err)
		}
	}
}

func TestDifferences(t *testing.T) {
	want := tree{"a": "1", "b": "2", "c": "3"}
	if got := differences(want, tree{"a": "1", "b": "2", "c": "3"}); len(got) > 0 {
		t.Errorf("equal trees differ: %q", got)
	}
	got := differences(want, tree{"a": "1", "c": "4", "d": "5"})
	if diff := cmp.Diff([]string{"b is missing", "c has another content", "d should not be there"}, got); diff != "" {
		t.Error(diff)
	}
}

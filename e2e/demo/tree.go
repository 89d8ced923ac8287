package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// tree is what a folder holds: the SHA-256 of every file, in hexadecimal, by its name relative to the folder.
type tree map[string]string

// readTree reads every file below a folder.
func readTree(ctx context.Context, dir string) (tree, error) {
	names, err := fileSizes(dir)
	if err != nil {
		return nil, err
	}
	t := tree{}
	for name := range names {
		if t[name], err = hashFile(ctx, filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func hashFile(ctx context.Context, path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, interruptible{ctx, in}); err != nil {
		return "", fmt.Errorf("read %s: %w", shorten(path), err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// differences lists what is in got otherwise than in want, by name.
func differences(want, got tree) []string {
	all := maps.Clone(want)
	maps.Copy(all, got)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w, wanted := want[name]
		g, there := got[name]
		switch {
		case !there:
			list = append(list, name+" is missing")
		case !wanted:
			list = append(list, name+" should not be there")
		case w != g:
			list = append(list, name+" has another content")
		}
	}
	return list
}

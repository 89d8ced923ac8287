//go:build !linux

package main

import "os"

// renameNew gives a file a new name. The error is io/fs's ErrExist if something has that name, even since a moment ago.
func renameNew(root *os.Root, from, to string) error { return link(root, from, to) }

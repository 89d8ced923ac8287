//go:build !linux

package main

// openSingle does nothing on this system.
func openSingle(string, string) (content, identity) { return nil, identity{} }

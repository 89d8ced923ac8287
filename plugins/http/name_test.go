package main

import (
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

func TestPartNames(t *testing.T) {
	const anyURL = "https://a.example/x/file.csv?y"
	for _, tt := range []struct {
		given, disposition, url string
		want                    string
	}{
		{"given/name.txt", `attachment; filename="other.txt"`, anyURL, "given/name.txt"},
		{"", `attachment; filename="other.txt"`, anyURL, "other.txt"},
		{"", `attachment; filename=plain.txt`, anyURL, "plain.txt"},
		{"", `inline; filename="a b.txt"`, anyURL, "a b.txt"},
		{"", `attachment; filename="folder/a.txt"`, anyURL, "folder/a.txt"},
		{"", `attachment; filename="x"; filename*=utf-8''%e2%82%ac%20rates`, anyURL, "€ rates"},
		{"", `attachment; filename*=utf-8''a%2Fb`, anyURL, "a/b"},
		{"", `attachment; filename="../../etc/passwd"`, anyURL, "etc/passwd"},
		{"", `attachment; filename="/etc/passwd"`, anyURL, "etc/passwd"},
		{"", `attachment; filename="C:\\windows\\x"`, anyURL, "C:/windows/x"},
		{"", `attachment; filename*=utf-8''a%00b%1b%0a`, anyURL, "a_b__"},
		{"", `attachment; filename*=utf-8''%ff%fe`, anyURL, "_"},
		{"", `attachment; filename=".."`, anyURL, "file.csv"},
		{"", `attachment; filename=""`, anyURL, "file.csv"},
		{"", `attachment; filename="` + strings.Repeat("x", 2000) + `"`, anyURL, "file.csv"},
		{"", `attachment; filename=a b; c`, anyURL, "file.csv"},
		{"", ``, anyURL, "file.csv"},
		{"", ``, "https://a.example/x/a%20b%2Fc", "c"},
		{"", ``, "https://a.example/x/", "data"},
		{"", ``, "https://a.example", "data"},
		{"", ``, "https://a.example/..", "data"},
	} {
		if got := partName(tt.given, tt.disposition, parseURL(t, tt.url)); got != tt.want {
			t.Errorf("%q, %q, %s: %q, want %q", tt.given, tt.disposition, tt.url, got, tt.want)
		}
	}
}

func FuzzPartName(f *testing.F) {
	f.Add(`attachment; filename="a/../b"; filename*=utf-8''%2e%2e%2f`, "/x/y")
	f.Add(`form-data; filename*0="a"; filename*1=/b`, "/%00")
	f.Add(`attachment; filename="\\\\host\\share"`, "/..")
	f.Fuzz(func(t *testing.T, disposition, path string) {
		u := parseURL(t, "https://a.example/")
		u.Path = path
		if err := sdk.CheckName(partName("", disposition, u)); err != nil {
			t.Error(err)
		}
	})
}

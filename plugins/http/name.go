package main

import (
	"mime"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/towpath-dataplane/towpath/sdk"
)

// partName names a part by the address, by what the server says, or by the URL, whichever is first to give a usable name.
func partName(given, disposition string, u *url.URL) string {
	for _, candidate := range []string{given, fileName(disposition), lastElement(u)} {
		if name := safeName(candidate); name != "" {
			return name
		}
	}
	return "data"
}

// fileName returns the file name in a Content-Disposition, "" if there is none.
func fileName(disposition string) string {
	_, params, err := mime.ParseMediaType(disposition)
	if err != nil {
		return ""
	}
	return params["filename"]
}

func lastElement(u *url.URL) string {
	if u.Path == "" || strings.HasSuffix(u.Path, "/") {
		return ""
	}
	return path.Base(u.Path)
}

// safeName turns what a server says into the name of a part, "" if nothing is left. Folders stay: they say where the part belongs.
func safeName(s string) string {
	s = strings.ToValidUTF8(s, "_")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\\':
			return '/'
		case r < ' ' || r == 0x7f || r == utf8.RuneError:
			return '_'
		}
		return r
	}, s)
	var elements []string
	for _, e := range strings.Split(s, "/") {
		if e != "" && e != "." && e != ".." {
			elements = append(elements, e)
		}
	}
	name := strings.Join(elements, "/")
	if sdk.CheckName(name) != nil {
		return ""
	}
	return name
}

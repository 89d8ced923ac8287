package httpfield

import (
	"mime"
	"strings"
)

// IsJSON reports whether a Content-Type says JSON, or nothing. Parameters do not matter, also if they are malformed.
func IsJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil { // of the parameters, or there is none
		media, _, _ = strings.Cut(strings.ToLower(contentType), ";")
		media = strings.TrimSpace(media)
	}
	return media == "" || strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}

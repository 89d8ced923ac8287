package signaling

import (
	"embed"
	"io/fs"
)

//go:embed schemas/*.schema.json
var schemas embed.FS

// Schemas returns the JSON schemas (2020-12) of the messages that are taken and sent, a file for each: the message's name and
// ".schema.json". They refer to one another by file name. What Options.Strict tolerates if it is not set, they do not.
func Schemas() fs.FS {
	files, err := fs.Sub(schemas, "schemas")
	if err != nil {
		panic(err) // the folder's name is not a valid path
	}
	return files
}

package edc

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/piprate/json-gold/ld"
)

// The context documents that a message may name, as far as messages of data plane signaling use terms of them, and the one in force before
// a message's own: EDC's names need no prefix, and the usual prefixes no declaration.
//
//go:embed contexts
var documents embed.FS

// index has the file of each document by its URL.
var index = func() (all map[string]string) {
	read("index.json", &all)
	return all
}()

func read(name string, into any) {
	content, err := documents.ReadFile("contexts/" + name)
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		panic(fmt.Errorf("context document %s: %w", name, err)) // it is part of the program
	}
}

// injected is the context in force before a message's own. The processor may change what it is given.
func injected() (document any) {
	read("injected.jsonld", &document)
	return document
}

// library loads the contexts that are known. Nothing is fetched.
type library struct{}

var _ ld.DocumentLoader = library{}

func (library) LoadDocument(u string) (*ld.RemoteDocument, error) {
	name, ok := index[strings.TrimSuffix(u, "/")]
	if !ok {
		known := slices.Sorted(maps.Keys(index))
		return nil, invalid("@context", "the context %.200q is not known here, and none is fetched; there are: %s", u, strings.Join(known, ", "))
	}
	var document any
	read(name, &document)
	return &ld.RemoteDocument{DocumentURL: u, Document: document}, nil
}

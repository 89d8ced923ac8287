package edc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/piprate/json-gold/ld"
)

// expand returns the one node that a message is, expanded, and the namespace of the Dataspace Protocol that it is written in, "" if it
// names none. The error is a *problem.
func expand(body []byte) (n node, dspace string, err error) {
	doc, err := parse(body)
	if err != nil {
		return nil, "", err
	}
	if list, ok := doc.([]any); ok && len(list) == 1 {
		doc = list[0]
	}
	if _, ok := doc.(map[string]any); !ok {
		return nil, "", invalid("", "the message is not one JSON object")
	}
	expanded, err := process(doc)
	if err != nil {
		return nil, "", err
	}
	if len(expanded) == 0 {
		return node{}, "", nil
	}
	top, ok := expanded[0].(map[string]any)
	if !ok || len(expanded) > 1 {
		return nil, "", invalid("", "the message is not one JSON-LD node")
	}
	return node(top), dspaceOf(doc, top), nil
}

// process runs the processor. It fetches nothing.
func process(doc any) (expanded []any, err error) {
	defer func() {
		if v := recover(); v != nil { // the processor is for documents that mean well
			err = invalid("", "the message cannot be expanded as JSON-LD")
		}
	}()
	o := ld.NewJsonLdOptions("")
	o.DocumentLoader, o.ExpandContext = library{}, injected()
	expanded, err = ld.NewJsonLdProcessor().Expand(doc, o)
	if err == nil {
		return expanded, nil
	}
	var unknown *problem
	if errors.As(err, &unknown) {
		return nil, unknown
	}
	var failed *ld.JsonLdError
	if errors.As(err, &failed) {
		return nil, invalid("", "the message cannot be expanded as JSON-LD: %s", failed.Code)
	}
	return nil, invalid("", "the message cannot be expanded as JSON-LD")
}

// dspaceOf finds the namespace of the Dataspace Protocol that a message is written in: that of its data addresses, or the one that its
// context declares.
func dspaceOf(doc any, top map[string]any) string {
	for _, where := range []any{top, doc} {
		for _, ns := range dspaces {
			if mentions(where, ns) {
				return ns
			}
		}
	}
	return ""
}

// mentions reports whether a value has terms of a namespace, or declares a prefix for it, or names a document that does.
func mentions(v any, ns string) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			if strings.HasPrefix(key, ns) || key == "@context" && declares(member, ns) || key != "@context" && mentions(member, ns) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(item any) bool { return mentions(item, ns) })
	}
	return false
}

func declares(context any, ns string) bool {
	switch c := context.(type) {
	case string:
		return c == ns || strings.HasPrefix(c, ns+"context.")
	case []any:
		return slices.ContainsFunc(c, func(item any) bool { return declares(item, ns) })
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(c)), func(v any) bool { return v == ns })
	}
	return false
}

// node is an expanded node object.
type node map[string]any

// is reports whether a node is of a type.
func (n node) is(typ string) bool {
	types, _ := n["@type"].([]any)
	return slices.Contains(types, any(typ))
}

// types are the node's types, for a person.
func (n node) types() string {
	types, _ := n["@type"].([]any)
	return fmt.Sprint(types)
}

package edc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// reader reads the members of an expanded node by their names in EDC's namespace or in one of the Dataspace Protocol's. The first failure
// sticks in err, a *problem, and every later one is dropped.
type reader struct {
	node node
	path string // where the node stands in the message, "" at the top
	err  error
}

func (r *reader) at(name string) string {
	if r.path == "" {
		return name
	}
	return r.path + "." + name
}

func (r *reader) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = invalid(r.at(name), format, args...)
	}
}

// keys are the names of the node's members in order, without those of JSON-LD.
func (r *reader) keys() []string {
	keys := slices.Sorted(maps.Keys(r.node))
	return slices.DeleteFunc(keys, func(key string) bool { return strings.HasPrefix(key, "@") })
}

// values are those of a member; EDC's namespace goes before the others.
func (r *reader) values(name string) []any {
	for _, ns := range append([]string{namespace}, dspaces...) {
		if all := items(r.node[ns+name]); len(all) > 0 {
			return all
		}
	}
	return nil
}

func (r *reader) has(name string) bool { return len(r.values(name)) > 0 }

// items are the values of an expanded member, those of a list alike.
func items(v any) []any {
	var all []any
	list, _ := v.([]any)
	for _, v := range list {
		if object, ok := v.(map[string]any); ok && object["@list"] != nil {
			all = append(all, items(object["@list"])...)
			continue
		}
		all = append(all, v)
	}
	return all
}

// one is the value of a member that has no more than one.
func (r *reader) one(name string) any {
	switch all := r.values(name); len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	default:
		r.fail(name, "has %d values where one belongs", len(all))
		return nil
	}
}

// text is a member that is a string, "" if it is absent. A number or a boolean counts as the string that it is written as.
func (r *reader) text(name string) string {
	v := r.one(name)
	if v == nil {
		return ""
	}
	s, ok := textOf(v)
	if !ok {
		r.fail(name, "is an object where a string belongs")
	}
	return s
}

func (r *reader) required(name string) string {
	s := r.text(name)
	if s == "" {
		r.fail(name, "is required")
	}
	return s
}

// textOf reads {"@value": …} or {"@id": …}.
func textOf(v any) (string, bool) {
	object, _ := v.(map[string]any)
	if object == nil || object["@type"] == "@json" {
		return "", false
	}
	if value, ok := object["@value"]; ok {
		return scalar(value)
	}
	id, ok := object["@id"].(string)
	return id, ok && len(object) == 1
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case json.Number:
		return v.String(), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	default:
		return "", false
	}
}

// nodeOf is a value that is an object with members of its own.
func nodeOf(v any) (node, bool) {
	object, _ := v.(map[string]any)
	_, value := object["@value"]
	return object, object != nil && !value
}

// object is a member that is a node, nil if it is absent.
func (r *reader) object(name string) *reader {
	v := r.one(name)
	if v == nil {
		return nil
	}
	n, ok := nodeOf(v)
	if !ok {
		r.fail(name, "is not an object")
		return nil
	}
	return &reader{node: n, path: r.at(name)}
}

// keep takes over a failure.
func (r *reader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func item(name string, i int) string { return fmt.Sprintf("%s[%d]", name, i) }

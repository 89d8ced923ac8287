package signaling

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep the objects and arrays of a message may be nested.
const maxDepth = 64

// checkJSON refuses what two decoders could read differently: text that is not UTF-8, half surrogate pairs, names that are there
// twice in one object, anything after the value; and nesting that is no message's. The error is a *flow.RequestError.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return invalid("", "the message is not UTF-8")
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(body, new(json.RawMessage)); errors.As(err, &syntax) {
		return invalid("", "the message is not JSON: %v at byte %d", syntax, syntax.Offset)
	} else if err != nil {
		return invalid("", "the message is not JSON: %v", err)
	}
	if halfSurrogate(body) {
		return invalid("", "the message is not UTF-8: half of a surrogate pair")
	}
	tokens := json.NewDecoder(bytes.NewReader(body))
	tokens.UseNumber()
	return checkValue(tokens, nil, 0)
}

// checkValue reads one value of JSON whose syntax is known to be right.
func checkValue(tokens *json.Decoder, at *place, depth int) error {
	token, err := tokens.Token()
	if err != nil {
		return invalid(at.String(), "is not JSON: %v", err)
	}
	opening, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth == maxDepth {
		return invalid("", "the message is nested deeper than %d levels", maxDepth)
	}
	check := checkItems
	if opening == '{' {
		check = checkMembers
	}
	if err := check(tokens, at, depth+1); err != nil {
		return err
	}
	if _, err := tokens.Token(); err != nil { // the closing delimiter
		return invalid(at.String(), "is not JSON: %v", err)
	}
	return nil
}

func checkMembers(tokens *json.Decoder, in *place, depth int) error {
	seen := make(map[string]bool)
	for tokens.More() {
		token, err := tokens.Token()
		if err != nil {
			return invalid(in.String(), "is not JSON: %v", err)
		}
		name := token.(string)
		at := &place{in: in, name: name}
		if seen[name] {
			return invalid(at.String(), "is there twice")
		}
		seen[name] = true
		if err := checkValue(tokens, at, depth); err != nil {
			return err
		}
	}
	return nil
}

func checkItems(tokens *json.Decoder, in *place, depth int) error {
	for i := 0; tokens.More(); i++ {
		if err := checkValue(tokens, &place{in: in, item: true, index: i}, depth); err != nil {
			return err
		}
	}
	return nil
}

// place is where a value stands: a member of, or an item in, another one. nil is the message. It becomes text only for an error,
// since a message can have many members at a place with a long name.
type place struct {
	in    *place
	name  string
	item  bool
	index int
}

// String returns the place as in a.b[2].c, cut to a length that suits an error.
func (p *place) String() string {
	const most = 200
	text := ""
	for ; p != nil; p = p.in {
		step := p.name
		if p.item {
			step = "[" + strconv.Itoa(p.index) + "]"
		}
		if text != "" && text[0] != '[' {
			step += "."
		}
		text = step + text
	}
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// halfSurrogate reports whether valid JSON has a \u escape that is half of a surrogate pair without the other half.
func halfSurrogate(body []byte) bool {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		r := escaped(body[i:])
		switch {
		case r < 0:
			i++ // the escaped character, which may be a backslash
		case utf16.DecodeRune(r, escaped(body[i+6:])) != utf8.RuneError:
			i += 11
		case utf16.IsSurrogate(r):
			return true
		default:
			i += 5
		}
	}
	return false
}

// escaped returns the code unit of the \u escape that text begins with, -1 if it begins with something else.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}

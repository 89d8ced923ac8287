package edc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

const (
	// maxDepth is how deep the objects and arrays of a message may be nested.
	maxDepth = 32
	// maxValues is how many values a message may have, of any kind. What a JSON-LD processor does grows faster than the text.
	maxValues = 4096
)

// parse reads JSON into the values that a JSON-LD processor takes. It refuses what two decoders could read differently, and what is too
// much for a message. The error is a *problem.
func parse(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, invalid("", "the message is not UTF-8")
	}
	p := parser{decoder: json.NewDecoder(bytes.NewReader(body)), left: maxValues}
	p.decoder.UseNumber()
	v, err := p.value(0)
	if err == nil {
		if _, more := p.decoder.Token(); !errors.Is(more, io.EOF) {
			err = invalid("", "there is something after the message")
		}
	}
	return v, err
}

type parser struct {
	decoder *json.Decoder
	left    int // values that may still come
}

func (p *parser) token() (json.Token, error) {
	t, err := p.decoder.Token()
	if err != nil {
		return nil, invalid("", "the message is not JSON: it is broken at byte %d", p.decoder.InputOffset())
	}
	return t, nil
}

func (p *parser) value(depth int) (any, error) {
	t, err := p.token()
	if err != nil {
		return nil, err
	}
	if p.left--; p.left < 0 {
		return nil, invalid("", "the message has more than %d values", maxValues)
	}
	opening, nested := t.(json.Delim)
	switch {
	case !nested:
		return t, nil
	case depth == maxDepth:
		return nil, invalid("", "the message is nested deeper than %d levels", maxDepth)
	case opening == '{':
		return p.object(depth + 1)
	default:
		return p.array(depth + 1)
	}
}

func (p *parser) array(depth int) (any, error) {
	all := []any{}
	for p.decoder.More() {
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	_, err := p.token()
	return all, err
}

func (p *parser) object(depth int) (any, error) {
	all := map[string]any{}
	for p.decoder.More() {
		t, err := p.token()
		if err != nil {
			return nil, err
		}
		name := t.(string) // the decoder takes nothing else for a name
		if _, twice := all[name]; twice {
			return nil, invalid("", "the message has %.100q twice in one object", name)
		}
		if all[name], err = p.value(depth); err != nil {
			return nil, err
		}
		if n, ok := all[name].(json.Number); ok && name == "@version" {
			all[name], _ = n.Float64() // as the processor compares it
		}
	}
	_, err := p.token()
	return all, err
}

package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// secretMark is the mark of a value that must not be shown.
type secretMark struct{}

// functions returns what the expressions of a file in dir may call. No error of theirs holds a secret, because none takes one.
func functions(dir string) map[string]function.Function {
	return map[string]function.Function{
		"env": textFunction("name", "default", env),
		"file": textFunction("path", "", func(args []string) (cty.Value, error) {
			return fileText(resolve(dir, args[0]), false)
		}),
		"path": textFunction("path", "", func(args []string) (cty.Value, error) {
			abs, err := filepath.Abs(resolve(dir, args[0]))
			return cty.StringVal(abs), err
		}),
		"secret": textFunction("path", "", func(args []string) (cty.Value, error) {
			text, err := fileText(resolve(dir, args[0]), true)
			return text.Mark(secretMark{}), err
		}),
	}
}

// textFunction makes a function of a string, and of at most one more if optional is not "".
func textFunction(param, optional string, call func(args []string) (cty.Value, error)) function.Function {
	spec := function.Spec{
		Params: []function.Parameter{{Name: param, Type: cty.String, AllowMarked: true}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if optional != "" && len(args) > 2 {
				return cty.NilVal, errors.New("it takes at most two arguments")
			}
			texts := make([]string, len(args))
			for i, a := range args {
				if a.IsMarked() {
					return cty.NilVal, errors.New("its arguments must not come from secret()")
				}
				texts[i] = a.AsString()
			}
			return call(texts)
		},
	}
	if optional != "" {
		spec.VarParam = &function.Parameter{Name: optional, Type: cty.String, AllowMarked: true}
	}
	return function.New(&spec)
}

func env(args []string) (cty.Value, error) {
	value := os.Getenv(args[0])
	switch {
	case value != "":
		return textValue(value, "the environment variable "+args[0])
	case len(args) > 1:
		return cty.StringVal(args[1]), nil
	default:
		return cty.NilVal, fmt.Errorf("the environment variable %s is not set; a second argument would be its default", args[0])
	}
}

func fileText(name string, private bool) (cty.Value, error) {
	text, err := readFile(name, private)
	if err != nil {
		return cty.NilVal, fmt.Errorf("cannot read %s: %w", name, err)
	}
	trimmed := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	return textValue(trimmed, name)
}

// textValue makes a value of a text that HCL keeps as it is. The error does not contain the text.
func textValue(text, from string) (cty.Value, error) {
	switch {
	case !utf8.ValidString(text):
		return cty.NilVal, fmt.Errorf("%s is not text in UTF-8", from)
	case cty.NormalizeString(text) != text:
		return cty.NilVal, fmt.Errorf("%s has letters that are not in Unicode normalization form C, and HCL would change them", from)
	default:
		return cty.StringVal(text), nil
	}
}

// resolve makes a path relative to dir, if it is not absolute.
func resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

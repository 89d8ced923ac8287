package sdk

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schema lists the fields of a plugin's configuration block or of a data address.
type Schema struct {
	Fields []Field
	// Open accepts properties that no field names.
	Open bool
}

// Field is one attribute of a Schema.
type Field struct {
	Name     string
	Kind     Kind // "" is String
	Required bool
	// Sensitive values are never logged or returned by an API, and stored encrypted.
	Sensitive     bool
	Documentation string
	Default       string // in the notation of the kind; "" for none
	OneOf         []string
	// Prefix makes the field stand for every name that begins with Name, as "header:".
	Prefix bool
}

// Kind is the kind of value a Field takes. In a data address every value is a string in the notation given.
type Kind string

// The kinds, as in towpath.plugin.v1.FieldKind. The last two exist in configuration only.
const (
	String     Kind = "string"
	Bool       Kind = "bool"
	Int        Kind = "int"
	Duration   Kind = "duration" // "1h30m", "250ms"
	Size       Kind = "size"     // bytes: "4096", "64KiB", "1GiB"
	URL        Kind = "url"      // absolute
	StringList Kind = "list of strings"
	StringMap  Kind = "map of strings"
)

// Lookup returns the field for a name: by exact name, by local name (see DataAddress.Get), or by prefix.
func (s Schema) Lookup(name string) (Field, bool) {
	for _, candidate := range []string{name, LocalName(name)} {
		for _, f := range s.Fields {
			if f.Name == candidate || f.Prefix && strings.HasPrefix(candidate, f.Name) {
				return f, true
			}
		}
	}
	return Field{}, false
}

// Check says what is wrong with the properties of a data address: fields that are missing, unknown, or not of their kind.
func (s Schema) Check(a DataAddress) []FieldError {
	var errs []FieldError
	for _, f := range s.Fields {
		if f.Required && !f.Prefix && a.Get(f.Name) == "" {
			errs = append(errs, FieldError{f.Name, "is required"})
		}
	}
	for name, value := range a.Properties {
		f, ok := s.Lookup(name)
		if !ok {
			if !s.Open {
				errs = append(errs, FieldError{name, "is not a property of " + a.Type})
			}
			continue
		}
		if value == "" && !f.Required {
			continue
		}
		if err := f.CheckValue(value); err != nil {
			errs = append(errs, FieldError{name, err.Error()})
		}
	}
	slices.SortFunc(errs, func(x, y FieldError) int { return strings.Compare(x.Field, y.Field) })
	return errs
}

// CheckValue says whether value is in the notation of the field's kind. The error does not contain a sensitive value.
func (f Field) CheckValue(value string) error {
	var err error
	switch f.Kind {
	case Bool:
		_, err = strconv.ParseBool(value)
	case Int:
		_, err = strconv.ParseInt(value, 10, 64)
	case Duration:
		_, err = time.ParseDuration(value)
	case Size:
		_, err = ParseSize(value)
	case URL:
		var u *url.URL
		if u, err = url.Parse(value); err == nil && (u.Scheme == "" || u.Host == "") {
			err = fmt.Errorf("not absolute")
		}
	}
	shown := strconv.Quote(value)
	if f.Sensitive {
		shown = "the value"
	}
	if err != nil {
		return fmt.Errorf("%s is not %s", shown, kindNames[f.Kind])
	}
	if len(f.OneOf) > 0 && !slices.Contains(f.OneOf, value) {
		return fmt.Errorf("%s is not one of %s", shown, strings.Join(f.OneOf, ", "))
	}
	return nil
}

// kindNames says what a value of a kind is.
var kindNames = map[Kind]string{
	Bool: "true or false", Int: "a whole number", Duration: "a length of time such as 1h30m or 250ms",
	Size: "a number of bytes such as 4096, 64KiB or 2GiB", URL: "an absolute URL",
}

// ParseSize reads a number of bytes: a decimal integer, or one with a suffix KiB, MiB, GiB or TiB.
func ParseSize(s string) (int64, error) {
	digits, shift := s, 0
	for i, suffix := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if d, ok := strings.CutSuffix(s, suffix); ok {
			digits, shift = strings.TrimSpace(d), 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<63-1)>>shift {
		return 0, fmt.Errorf("%q is not a number of bytes such as 4096, 64KiB or 2GiB", s)
	}
	return n << shift, nil
}

// Config is an operator's configuration of a plugin: one value per field of its schema that was set or has a default.
type Config struct {
	// JSON is an object with a member per field; durations and sizes are strings.
	JSON []byte
	// ScratchDir is a folder for this plugin alone, gone when the process has ended. "" if there is none.
	ScratchDir string
}

// Decode stores the configuration in the struct that into points to, by encoding/json's rules. Use ByteSize and TimeSpan for sizes
// and durations.
func (c Config) Decode(into any) error {
	if len(c.JSON) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.JSON, into); err != nil {
		return Errorf(Invalid, "configuration: %v", err)
	}
	return nil
}

// ByteSize is a number of bytes that decodes from a Size field.
type ByteSize int64

// UnmarshalText reads the notation of Size.
func (b *ByteSize) UnmarshalText(text []byte) error {
	n, err := ParseSize(string(text))
	*b = ByteSize(n)
	return err
}

// TimeSpan is a time.Duration that decodes from a Duration field.
type TimeSpan time.Duration

// UnmarshalText reads the notation of Duration.
func (t *TimeSpan) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*t = TimeSpan(d)
	return err
}

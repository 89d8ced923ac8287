package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/textproto"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/httpfield"
)

// The functions of this file read one kind of value each, for set. Their errors end without a full stop.

// text reads a string, or a number or bool as a string.
func text(v cty.Value) (string, error) {
	if v.IsNull() {
		return "", errors.New("null is not a string")
	}
	if !v.Type().IsPrimitiveType() {
		return "", fmt.Errorf("%s is not a string", kindOf(v))
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", err
	}
	return s.AsString(), nil
}

// kindOf names the kind of a value for a message.
func kindOf(v cty.Value) string {
	switch t := v.Type(); {
	case t == cty.String:
		return "a string"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "true or false"
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		return "a list"
	default:
		return "a map"
	}
}

func nonEmpty(v cty.Value) (string, error) {
	s, err := text(v)
	if err == nil && s == "" {
		err = errors.New("it is empty")
	}
	return s, err
}

// nonEmptyTexts reads a list of at least one string, none of them empty.
func nonEmptyTexts(v cty.Value) ([]string, error) {
	list, err := texts(v)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, errors.New("the list is empty")
	case slices.Contains(list, ""):
		return nil, errors.New("an element is empty")
	}
	return list, nil
}

// word reads a string without spaces.
func word(v cty.Value) (string, error) {
	s, err := nonEmpty(v)
	if err == nil && strings.ContainsFunc(s, unicode.IsSpace) {
		err = fmt.Errorf("%q has a space in it", s)
	}
	return s, err
}

// texts reads a list of strings.
func texts(v cty.Value) ([]string, error) {
	if kindOf(v) != "a list" {
		return nil, fmt.Errorf("%s is not a list of strings", kindOf(v))
	}
	list := []string{}
	for _, element := range v.AsValueSlice() {
		s, err := text(element)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", len(list)+1, err)
		}
		list = append(list, s)
	}
	return list, nil
}

// textMap reads strings by name.
func textMap(v cty.Value) (map[string]string, error) {
	if kindOf(v) != "a map" {
		return nil, fmt.Errorf("%s is not a map of strings: { name = \"value\" }", kindOf(v))
	}
	out := map[string]string{}
	elements := v.AsValueMap()
	for _, name := range slices.Sorted(maps.Keys(elements)) {
		s, err := text(elements[name])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		out[name] = s
	}
	return out, nil
}

func boolean(v cty.Value) (bool, error) {
	s, err := text(v)
	if err == nil && s != "true" && s != "false" {
		err = fmt.Errorf("%q is not true or false", s)
	}
	return s == "true", err
}

// count reads a whole number of at least 1.
func count(v cty.Value) (int, error) { return countFrom(1, v) }

// countOrNone reads a whole number of at least 0.
func countOrNone(v cty.Value) (int, error) { return countFrom(0, v) }

func countFrom(least int64, v cty.Value) (int, error) {
	s, err := text(v)
	if err != nil {
		return 0, errors.New("it is not a whole number")
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < least {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", s, least, math.MaxInt32)
	}
	return int(n), nil
}

// duration reads a length of time of more than 0.
func duration(v cty.Value) (time.Duration, error) {
	s, err := text(v)
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as \"500ms\", \"30s\" or \"1h30m\"", s)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%q is not more than 0", s)
	}
	return d, nil
}

// size reads a number of bytes of more than 0.
func size(v cty.Value) (int64, error) {
	s, err := text(v)
	if err != nil {
		return 0, err
	}
	n, err := sdk.ParseSize(s)
	if err == nil && n == 0 {
		err = fmt.Errorf("%q is not more than 0", s)
	}
	return n, err
}

// laneBuffer reads the size of a socket's buffer.
func laneBuffer(v cty.Value) (int64, error) {
	const most = 64 << 20
	n, err := size(v)
	if err == nil && n > most {
		err = fmt.Errorf("%d bytes is more than 64MiB", n)
	}
	return n, err
}

// oneOf reads one of a closed set of words.
func oneOf[T ~string](allowed ...T) func(cty.Value) (T, error) {
	return func(v cty.Value) (T, error) {
		s, err := text(v)
		if err != nil {
			return "", err
		}
		if slices.Contains(allowed, T(s)) {
			return T(s), nil
		}
		names := make([]string, len(allowed))
		for i, a := range allowed {
			names[i] = strconv.Quote(string(a))
		}
		return "", fmt.Errorf("%q is not one of %s", s, strings.Join(names, ", "))
	}
}

// hostPort reads the address of a listener.
func hostPort(v cty.Value) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is not an address such as \"127.0.0.1:8080\" or \"[::1]:8080\"", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q has no port from 0 to 65535", s)
	}
	if strings.ContainsFunc(host, notInHost) {
		return "", fmt.Errorf("%q is not a host name or an IP address", host)
	}
	return s, nil
}

func notInHost(r rune) bool {
	return !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_.:%", r))
}

// fileName reads the name of a file without a folder.
func fileName(v cty.Value) (string, error) {
	s, err := nonEmpty(v)
	if err == nil && (s != filepath.Base(s) || s == "." || s == "..") {
		err = fmt.Errorf("%q is not the name of a file in the plugin directory", s)
	}
	return s, err
}

// sha256Hex reads a SHA-256 in hexadecimal digits and makes them lower case.
func sha256Hex(v cty.Value) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	if n := utf8.RuneCountInString(s); n != 2*sha256.Size {
		return "", fmt.Errorf("a SHA-256 has %d hexadecimal digits, this has %d letters", 2*sha256.Size, n)
	}
	if _, err := hex.DecodeString(s); err != nil {
		return "", errors.New("a SHA-256 has hexadecimal digits only, this has other letters")
	}
	return strings.ToLower(s), nil
}

// environment reads values by name of an environment variable.
func environment(v cty.Value) (map[string]string, error) {
	m, err := textMap(v)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := checkVariable(name); err != nil {
			return nil, err
		}
		if strings.ContainsRune(m[name], 0) {
			return nil, fmt.Errorf("%q: a value cannot have a NUL in it", name)
		}
	}
	return m, err
}

// variables reads a list of names of environment variables.
func variables(v cty.Value) ([]string, error) {
	names, err := texts(v)
	for _, name := range names {
		if err := checkVariable(name); err != nil {
			return nil, err
		}
	}
	return names, err
}

// headerFields reads a list of header fields that can be handed on. "Set-Cookie" is one of answers.
func headerFields(v cty.Value) ([]string, error) {
	names, err := texts(v)
	for i, name := range names {
		if err := httpfield.CheckForwarded(name); err != nil {
			return nil, err
		}
		names[i] = textproto.CanonicalMIMEHeaderKey(name)
	}
	return names, err
}

func checkVariable(name string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return fmt.Errorf("%q is not the name of an environment variable", name)
	}
	return nil
}

// pluginTypes reads types of plugins by endpointType.
func pluginTypes(v cty.Value) (map[string]string, error) {
	types, err := textMap(v)
	for endpointType, typ := range types {
		if endpointType == "" || typ == "" {
			return nil, errors.New("an endpointType or a type is empty")
		}
	}
	return types, err
}

// digests reads the algorithms to compute. CRC32C is always among them, and first.
func digests(v cty.Value) ([]sdk.Algorithm, error) {
	names, err := texts(v)
	if err != nil {
		return nil, err
	}
	out := []sdk.Algorithm{sdk.CRC32C}
	for _, name := range names {
		a, err := oneOf(sdk.Algorithms()...)(cty.StringVal(name))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

func logLevel(v cty.Value) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	name, err := oneOf("debug", "info", "warn", "error")(v)
	return levels[name], err
}

// jwks reads a JSON Web Key Set of public keys. No error repeats any of it.
func jwks(v cty.Value) (string, error) {
	s, err := nonEmpty(v)
	if err != nil {
		return "", err
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(s), &set); err != nil || set.Keys == nil {
		return "", errors.New(`it is not a JSON Web Key Set: { "keys": [ … ] }`)
	}
	if len(set.Keys) == 0 {
		return "", errors.New("the key set is empty")
	}
	for i, key := range set.Keys {
		kind, _ := key["kty"].(string)
		if !slices.Contains([]string{"RSA", "EC", "OKP"}, kind) {
			return "", exposed{fmt.Errorf("key %d is not a public key: its kty is not RSA, EC or OKP", i+1)}
		}
		if _, private := key["d"]; private {
			return "", exposed{fmt.Errorf("key %d is a private key, and only public ones belong here", i+1)}
		}
	}
	return s, nil
}

// header reads the name of an HTTP header that may be set.
func header(v cty.Value) (string, error) {
	s, err := text(v)
	if err != nil {
		return "", err
	}
	return textproto.CanonicalMIMEHeaderKey(s), checkHeader(s)
}

func checkHeader(name string) error {
	if !headerPattern.MatchString(name) {
		return fmt.Errorf("%q is not the name of an HTTP header", name)
	}
	if slices.Contains(reservedHeaders, textproto.CanonicalMIMEHeaderKey(name)) {
		return fmt.Errorf("the header %s is not for this", textproto.CanonicalMIMEHeaderKey(name))
	}
	return nil
}

var (
	headerPattern = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	// reservedHeaders are set by whoever sends the request.
	reservedHeaders = []string{"Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
		"Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}
	// credentialHeaders carry secrets.
	credentialHeaders = []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key"}
)

// checkID says whether a label can be the id of something: it goes into logs, URLs and file names of reports.
func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("it is empty")
	case len(id) > 1024:
		return errors.New("it is longer than 1024 bytes")
	case strings.ContainsFunc(id, unicode.IsControl), strings.TrimSpace(id) != id:
		return fmt.Errorf("%q has control characters or begins or ends with a space", id)
	}
	return nil
}

// checkPluginName says whether a label can be the name of a plugin.
func checkPluginName(name string) error {
	if !pluginNamePattern.MatchString(name) {
		return fmt.Errorf("%q is not the name of a plugin: lower-case letters, digits and '-'", name)
	}
	return nil
}

var pluginNamePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// typeOf is what a profile named as EDC's transfer types are, DEST-PUSH or DEST-PULL-RESPONSE, says of the type of data addresses: DEST.
// "" if the name is of another form.
func typeOf(profile string) string {
	for _, flow := range []string{"-PUSH", "-PULL"} {
		if dest, ok := strings.CutSuffix(profile, flow); ok {
			return dest
		}
		if at := strings.LastIndex(profile, flow+"-"); at > 0 {
			return profile[:at]
		}
	}
	return ""
}

// directionOf reads the direction off a profile's name: "…-push", "…-pull", or EDC's "…-PUSH-<response channel>". "" if it has none.
func directionOf(profile string) Direction {
	words := strings.Split(strings.ToLower(profile), "-")
	for _, i := range []int{len(words) - 1, len(words) - 2} {
		if i < 1 {
			break
		}
		if d := Direction(words[i]); d == Push || d == Pull {
			return d
		}
	}
	return ""
}

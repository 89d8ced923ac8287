package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxFileSize bounds every file that is read, so that a device or a mistaken path does not fill the memory.
const maxFileSize = 4 << 20

// source is the text of a configuration.
type source struct {
	root   string // as it was given
	names  []string
	files  map[string]*hcl.File
	broken bool // something could not be read or parsed
}

// readSource reads and parses a file, or all *.hcl files of a directory in the order of their names.
func readSource(root string) (*source, hcl.Diagnostics) {
	s := &source{root: root, files: map[string]*hcl.File{}}
	names, err := sourceNames(root)
	if err != nil {
		s.broken = true
		return s, hcl.Diagnostics{problem(hcl.Range{Filename: root}, "Cannot read the configuration", "%v.", err)}
	}
	var diags hcl.Diagnostics
	for _, name := range names {
		file, fileDiags := parseFile(name)
		diags = append(diags, fileDiags...)
		if file != nil {
			s.names = append(s.names, name)
			s.files[name] = file
		}
	}
	s.broken = len(diags) > 0
	return s, diags
}

func sourceNames(root string) ([]string, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, bare(err)
	}
	if !info.IsDir() {
		return []string{root}, nil
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, bare(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".hcl") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, filepath.Join(root, e.Name()))
		}
	}
	if names == nil {
		return nil, errors.New("the directory has no *.hcl files")
	}
	return names, nil
}

// parseFile returns what could be understood of a file, nil if nothing.
func parseFile(name string) (*hcl.File, hcl.Diagnostics) {
	text, err := readFile(name, false)
	if err != nil {
		return nil, hcl.Diagnostics{problem(hcl.Range{Filename: name}, "Cannot read the configuration", "%v.", err)}
	}
	if at := invalidUTF8(text); at >= 0 {
		return nil, hcl.Diagnostics{problem(position(name, text, at), "Not UTF-8", "The file has to be text in UTF-8.")}
	}
	if d := checkLimits(name, text); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	file, diags := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	if file != nil {
		diags = append(diags, duplicateKeys(file.Body.(*hclsyntax.Body))...)
	}
	return file, diags
}

// readFile reads a regular file. private refuses one that others than its owner can get at.
func readFile(name string, private bool) ([]byte, error) {
	// A pipe without a writer would block in Open.
	if info, err := os.Stat(name); err != nil {
		return nil, bare(err)
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	if mode := info.Mode().Perm(); private && mode&0o077 != 0 {
		return nil, fmt.Errorf("others than its owner can get at it (mode %04o); chmod 600 it", mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, bare(err)
	}
	if len(text) > maxFileSize {
		return nil, fmt.Errorf("it is larger than %d MiB", maxFileSize>>20)
	}
	return text, nil
}

// bare takes operation and path off an error: the message around it names the file already.
func bare(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// position is the place of a byte as people count: lines and characters from 1.
func position(name string, text []byte, offset int) hcl.Range {
	before := string(text[:offset])
	lineStart := strings.LastIndexByte(before, '\n') + 1
	at := hcl.Pos{
		Line:   strings.Count(before, "\n") + 1,
		Column: utf8.RuneCountInString(before[lineStart:]) + 1,
		Byte:   offset,
	}
	return hcl.Range{Filename: name, Start: at, End: at}
}

// The bounds of one expression. They are far above what anyone writes; HCL itself has none, and ends the process on a stack that
// grew too far, or writes 1e9999999 out.
const (
	maxNesting   = 100
	maxOperators = 500
	maxNumber    = 24 // letters of a number, of which an exponent has at most two digits
)

// checkLimits refuses a text that HCL cannot cope with. It returns nil if there is none such.
func checkLimits(name string, text []byte) *hcl.Diagnostic {
	tokens, _ := hclsyntax.LexConfig(text, name, hcl.InitialPos) // what is not a token is the parser's to report
	depth, operators := 0, 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenTemplateInterp,
			hclsyntax.TokenTemplateControl, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd,
			hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc:
			depth--
		case hclsyntax.TokenEqual, hclsyntax.TokenComma:
			operators = 0
		case hclsyntax.TokenNumberLit:
			if !writable(string(t.Bytes)) {
				return problem(t.Range, "Unsuitable number", "A number has at most %d digits, and its exponent at most 2.", maxNumber)
			}
		case hclsyntax.TokenPlus, hclsyntax.TokenMinus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
			hclsyntax.TokenBang, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenQuestion, hclsyntax.TokenEqualOp,
			hclsyntax.TokenNotEqual, hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan,
			hclsyntax.TokenGreaterThanEq:
			operators++
		}
		if depth > maxNesting || operators > maxOperators {
			return problem(t.Range, "Expression too large", "It is nested more than %d deep or has more than %d operators.", maxNesting, maxOperators)
		}
	}
	return nil
}

func writable(number string) bool {
	_, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	return len(number) <= maxNumber && len(strings.TrimLeft(exponent, "+-")) <= 2
}

// duplicateKeys finds names that are set twice in one { name = value } expression, of which HCL would keep the last.
func duplicateKeys(body *hclsyntax.Body) hcl.Diagnostics {
	return hclsyntax.VisitAll(body, func(node hclsyntax.Node) hcl.Diagnostics {
		object, ok := node.(*hclsyntax.ObjectConsExpr)
		if !ok {
			return nil
		}
		var diags hcl.Diagnostics
		seen := map[string]bool{}
		for _, item := range object.Items {
			key := literalKey(item.KeyExpr)
			if key != "" && seen[key] {
				diags = append(diags, problem(item.KeyExpr.Range(), "Duplicate name", "%q is already set in these braces.", key))
			}
			seen[key] = true
		}
		return diags
	})
}

// literalKey returns a key that is written out, "" for one that is computed.
func literalKey(expr hclsyntax.Expression) string {
	key, diags := expr.Value(nil)
	if diags.HasErrors() || key.IsNull() || !key.IsWhollyKnown() || key.Type() != cty.String {
		return ""
	}
	return key.AsString()
}

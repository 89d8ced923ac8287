package publicapi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	// manifestType is the media type of a manifest.
	manifestType = "application/vnd.towpath.manifest+json"
	// maxManifest is the most bytes of a manifest: some 200,000 parts.
	maxManifest = 32 << 20
	// maxDifferences is the most that an answer lists.
	maxDifferences = 100
)

// manifest is what a sender says it has sent.
type manifest struct {
	parts map[string]manifestPart
	bytes int64
}

// manifestPart is a part of a manifest.
type manifestPart struct {
	size    int64
	digests sdk.Digests
}

// difference says what is not as the manifest has it.
type difference struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
}

// errDifferent says that a manifest is not about what is here.
var errDifferent = errors.New("the manifest differs")

// seal closes the flow's ingest if what is there is what the manifest of the request says. It can be repeated.
func (h *Handler) seal(x *exchange, s *stay) (*answer, error) {
	body, err := readManifest(x)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(body)
	if err != nil {
		return nil, err
	}
	var differences []difference
	err = h.Flows.Seal(s.ctx, x.route.key, func(parts []flow.Part) error {
		if differences = m.compare(parts); len(differences) > 0 {
			return errDifferent
		}
		return nil
	})
	if errors.Is(err, errDifferent) {
		p := conflict.because("what has come is not what the manifest says")
		p.Differences = differences[:min(len(differences), maxDifferences)]
		p.More = len(differences) - len(p.Differences)
		return nil, p
	}
	if err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, body: map[string]int64{"parts": int64(len(m.parts)), "bytes": m.bytes}}, nil
}

// readManifest returns the body of a request that carries a manifest.
func readManifest(x *exchange) ([]byte, error) {
	mediaType, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || mediaType != manifestType && mediaType != "application/json" {
		return nil, unsupported.because("a manifest is %s", manifestType)
	}
	if err := checkCoding(x.r.Header); err != nil {
		return nil, err
	}
	over := tooLarge.because("a manifest may have %d bytes", maxManifest)
	if x.r.ContentLength > maxManifest {
		return nil, over
	}
	body, err := io.ReadAll(io.LimitReader(x, maxManifest+1))
	if err == nil && len(body) > maxManifest {
		err = over
	}
	return body, err
}

// manifestJSON is a manifest as it is sent.
type manifestJSON struct {
	Parts []struct {
		Index   *uint64           `json:"index"` // the sender's own count; not compared
		Name    string            `json:"name"`
		Size    *int64            `json:"size"`
		Digests map[string]string `json:"digests"`
	} `json:"parts"`
	Bytes *int64 `json:"bytes"`
}

// parseManifest reads a manifest. The error is a *problem: 400 for what is no manifest, 422 for one that contradicts itself.
func parseManifest(body []byte) (*manifest, error) {
	var raw manifestJSON
	if err := decodeStrict(body, &raw); err != nil {
		return nil, badRequest.because("the manifest cannot be read: %v", err)
	}
	if raw.Parts == nil {
		return nil, badRequest.because("the manifest has no parts member")
	}
	m := &manifest{parts: make(map[string]manifestPart, len(raw.Parts))}
	for i, part := range raw.Parts {
		if err := sdk.CheckName(part.Name); err != nil {
			return nil, badRequest.because("parts[%d]: %v", i, err)
		}
		if part.Size == nil || *part.Size < 0 {
			return nil, badRequest.because("parts[%d]: size has to be 0 or more", i)
		}
		digests, err := parseHexDigests(part.Digests)
		if err != nil {
			return nil, badRequest.because("parts[%d]: %v", i, err)
		}
		if _, twice := m.parts[part.Name]; twice {
			return nil, inconsistent.because("part %q is there twice", part.Name)
		}
		m.parts[part.Name] = manifestPart{*part.Size, digests}
		if m.bytes += *part.Size; m.bytes < 0 {
			return nil, inconsistent.because("the sizes have no sum")
		}
	}
	if raw.Bytes != nil && *raw.Bytes != m.bytes {
		return nil, inconsistent.because("the parts have %d bytes, not %d", m.bytes, *raw.Bytes)
	}
	return m, nil
}

func parseHexDigests(digests map[string]string) (sdk.Digests, error) {
	d := sdk.Digests{}
	for name, value := range digests {
		sum, err := hex.DecodeString(value)
		if err != nil || len(sum) == 0 {
			return nil, fmt.Errorf("digest %q is not hexadecimal", name)
		}
		d[sdk.Algorithm(name)] = sum
	}
	return d, nil
}

// compare lists what is different between the manifest and what is there.
func (m *manifest) compare(parts []flow.Part) []difference {
	var differences []difference
	there := make(map[string]bool, len(parts))
	for _, p := range parts {
		there[p.Name] = true
		want, ok := m.parts[p.Name]
		if !ok {
			differences = append(differences, difference{p.Name, "is not in the manifest"})
		} else if problem := want.compare(p); problem != "" {
			differences = append(differences, difference{p.Name, problem})
		}
	}
	for name := range m.parts {
		if !there[name] {
			differences = append(differences, difference{name, "has not come"})
		}
	}
	slices.SortFunc(differences, func(a, b difference) int { return strings.Compare(a.Name, b.Name) })
	return differences
}

// compare returns what is different, "" if nothing is.
func (m manifestPart) compare(p flow.Part) string {
	if m.size != p.Size {
		return fmt.Sprintf("has %d bytes, not %d", p.Size, m.size)
	}
	if err := p.Digests.Compare(m.digests); err != nil {
		return err.Error()
	}
	if len(m.digests) == 0 {
		return ""
	}
	for a := range m.digests {
		if p.Digests[a] != nil {
			return ""
		}
	}
	return "has no digest that could be compared: only " + p.Digests.String()
}

// decodeStrict decodes one JSON value that has no member twice and none that into does not know.
func decodeStrict(body []byte, into any) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	tokens := json.NewDecoder(bytes.NewReader(body))
	if err := checkMembers(tokens, 0); err != nil {
		return err
	}
	if _, err := tokens.Token(); err != io.EOF {
		return errors.New("something follows its end")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// maxDepth is deeper than any manifest.
const maxDepth = 8

// checkMembers reads one value and finds members that occur twice.
func checkMembers(tokens *json.Decoder, depth int) error {
	t, err := tokens.Token()
	if err != nil {
		return noEOF(err)
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == maxDepth {
		return errors.New("it is nested too deep")
	}
	seen := map[string]bool{}
	for tokens.More() {
		if open == '{' {
			name, err := tokens.Token()
			if err != nil {
				return noEOF(err)
			}
			if key := strings.ToLower(name.(string)); seen[key] {
				return fmt.Errorf("member %q occurs twice", name)
			} else {
				seen[key] = true
			}
		}
		if err := checkMembers(tokens, depth+1); err != nil {
			return err
		}
	}
	_, err = tokens.Token()
	return noEOF(err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

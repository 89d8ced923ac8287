package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// sink sends every part in a request of its own, or a large one in several if the receiver can go on with it after a cut. It repeats no
// request: the bytes of a part pass once, so the host begins again from the last place that is durable. Without a receiver that can go
// on that is the start of a part, which the receiver replaces by its name.
type sink struct {
	env *environment

	// manifests holds what was sent for flows that end with a manifest, so that a flow that goes on after a pause lists all its
	// parts. Deprovision removes them.
	mu        sync.Mutex
	manifests map[flowKey]*manifest
	uploads   map[flowKey]begun // of the parts on their way
}

var (
	_ sdk.Sink          = (*sink)(nil)
	_ sdk.Validator     = (*sink)(nil)
	_ sdk.Deprovisioner = (*sink)(nil)
)

type flowKey struct{ participantContext, id string }

func keyOf(f sdk.FlowContext) flowKey { return flowKey{f.ParticipantContext, f.ID} }

// Validate checks the URLs and the header of the requests, without resolving the host.
func (s *sink) Validate(_ context.Context, a sdk.DataAddress) error {
	t, err := newSinkTarget(a)
	if err != nil {
		return err
	}
	return checkHost(s.env.writer.policy, t.url, baseField(a))
}

// Write sends the parts one after the other, and the manifest if the address asks for it. A part is durable once the receiver has
// answered it with a status of success.
func (s *sink) Write(ctx context.Context, req sdk.WriteRequest, parts iter.Seq2[*sdk.IncomingPart, error]) error {
	t, err := newSinkTarget(req.Address)
	if err != nil {
		return err
	}
	u := &uploader{env: s.env, sink: s, key: keyOf(req.Flow), target: t, manifest: s.manifest(req.Flow, t)}
	for part, err := range parts {
		if err != nil {
			return err
		}
		if err := u.send(ctx, part); err != nil {
			return fmt.Errorf("part %q: %w", part.Name, err)
		}
	}
	return u.sendManifest(ctx, req.Redelivery)
}

// manifest returns the manifest of a flow, nil if it ends without.
func (s *sink) manifest(f sdk.FlowContext, t *sinkTarget) *manifest {
	if t.manifestURL == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.manifests[keyOf(f)]
	if m == nil {
		m = &manifest{}
		s.manifests[keyOf(f)] = m
	}
	return m
}

// cancelTime bounds how long a receiver may take to hear that an upload is over.
const cancelTime = 5 * time.Second

// Deprovision forgets what was sent for a flow, and cancels an upload that was begun.
func (s *sink) Deprovision(ctx context.Context, f sdk.FlowContext, a sdk.DataAddress) error {
	s.mu.Lock()
	delete(s.manifests, keyOf(f))
	s.mu.Unlock()
	upload := s.forget(keyOf(f))
	if t, err := newSinkTarget(a); err == nil && upload.url != "" {
		ctx, cancel := context.WithTimeout(ctx, cancelTime)
		defer cancel()
		(&uploader{env: s.env, target: t}).cancel(ctx, upload)
	}
	return nil
}

// sinkTarget is what the address of a sink asks for.
type sinkTarget struct {
	*target
	mediaType   string // of parts that have none
	neverChunk  bool
	trailer     bool     // whether digests may go behind the content
	asks        bool     // whether uploads can go on after a cut
	manifestURL *url.URL // nil for none
	digests     []sdk.Algorithm
}

func uploadMethods() []string { return []string{http.MethodPost, http.MethodPut, http.MethodPatch} }

func newSinkTarget(a sdk.DataAddress) (*sinkTarget, error) {
	base, err := newTarget(a, http.MethodPost)
	if err != nil {
		return nil, err
	}
	r := addressReader{address: a}
	if !slices.Contains(uploadMethods(), base.method) {
		r.fail("method", "is not one of "+strings.Join(uploadMethods(), ", "))
	}
	t := &sinkTarget{target: base, mediaType: cmp.Or(a.Get("contentType"), defaultMediaType), neverChunk: isTrue(a, "nonChunkedTransfer"),
		trailer: isTrue(a, "digestTrailer"),
		asks:    isTrue(a, "resumable") || a.Get("resumable") == "" && a.Endpoint != ""}
	if !isFieldValue(t.mediaType) {
		r.fail("contentType", "is not a value for a header field")
	}
	t.digests = r.digests()
	t.manifestURL = r.manifestURL(base.url)
	if err := sdk.InvalidFields(r.errs); err != nil {
		return nil, err
	}
	if t.manifestURL != nil {
		t.secrets = append(t.secrets, secretsOf(&target{url: t.manifestURL})...)
	}
	return t, nil
}

// digests are those of a manifest: CRC-32C always, others on request. A receiver may ask for ones that are not known.
func (r *addressReader) digests() []sdk.Algorithm {
	algorithms := []sdk.Algorithm{sdk.CRC32C}
	for _, name := range strings.Split(r.address.Get("digests"), ",") {
		if strings.EqualFold(strings.TrimSpace(name), string(sdk.SHA256)) {
			algorithms = append(algorithms, sdk.SHA256)
			break
		}
	}
	return algorithms
}

func (r *addressReader) manifestURL(endpoint *url.URL) *url.URL {
	value := r.address.Get("manifestUrl")
	if value == "" {
		return nil
	}
	u := r.parse("manifestUrl", value)
	if u != nil && (u.Scheme != endpoint.Scheme || !sameHost(endpoint, u)) {
		r.fail("manifestUrl", "is not on the host of the endpoint")
	}
	return u
}

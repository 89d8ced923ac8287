package signaling

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
)

// Agreements fetches the agreements of flows from their control planes. It is safe for concurrent use.
type Agreements struct {
	ControlPlanes *Directory
}

// What asking for an agreement can come to.
var (
	// ErrNoAgreement says that the control plane has no agreement for the flow, or does not know the flow. A control plane that does not
	// hand out agreements at all may answer in the same way.
	ErrNoAgreement = errors.New("the control plane has no agreement for the data flow")
	// ErrNotSupported says that the control plane does not hand out agreements.
	ErrNotSupported = errors.New("the control plane does not hand out agreements")
	// ErrBadAgreement says that what the control plane handed out is no agreement.
	ErrBadAgreement = errors.New("what the control plane answered is no agreement")
	// ErrUnknownControlPlane says that the flow's control plane is not in the Directory.
	ErrUnknownControlPlane = errors.New("the control plane is not known")
)

// maxAgreement is the longest agreement, in bytes.
const maxAgreement = 1 << 20

// Agreement returns the agreement that permits a flow (AgreementResponse) as its control plane wrote it. The error is one of those above,
// or says what else the control plane answered.
func (a *Agreements) Agreement(ctx context.Context, f *flow.Flow) (json.RawMessage, error) {
	raw, err := a.fetch(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("agreement of flow %s: %w", f.Key, err)
	}
	return raw, nil
}

func (a *Agreements) fetch(ctx context.Context, f *flow.Flow) (json.RawMessage, error) {
	m, ok := a.ControlPlanes.member(f.Context, f.ControlPlane)
	if !ok {
		return nil, ErrUnknownControlPlane
	}
	answer, failed := m.peer.exchange(ctx, http.MethodGet, transferURL(m.Endpoint, f.ID, "agreement"), nil, maxAgreement+1)
	if failed != nil {
		return nil, cmp.Or(ctx.Err(), errors.New(failed.text))
	}
	switch code := answer.StatusCode; {
	case code == http.StatusMethodNotAllowed, code == http.StatusNotImplemented:
		return nil, ErrNotSupported
	case code == http.StatusNotFound && strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html"): // a page, so no API
		return nil, ErrNotSupported
	case code == http.StatusNotFound:
		return nil, ErrNoAgreement
	case code != http.StatusOK:
		return nil, errors.New(refusal(answer, true, time.Time{}).text)
	case len(answer.body) > maxAgreement:
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrBadAgreement, maxAgreement)
	}
	if err := checkAgreement(answer.body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAgreement, err)
	}
	return answer.body, nil
}

// checkAgreement demands the members that the schema of AgreementResponse does.
func checkAgreement(body []byte) error {
	if err := checkJSON(body); err != nil {
		return err
	}
	f, err := parseFields("", body)
	if err != nil {
		return err
	}
	if !f.has("@context") {
		f.fail("@context", "is required")
	}
	if kind := f.required("@type"); kind != "Agreement" {
		f.fail("@type", "is not Agreement")
	}
	for _, name := range []string{"@id", "target", "assigner", "assignee"} {
		f.required(name)
	}
	if !f.has("permission") && !f.has("prohibition") {
		f.fail("permission", "is required, or prohibition")
	}
	return f.err
}

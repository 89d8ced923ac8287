package access

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"
)

const (
	// maxAsked is how many requests are in the hands of a decision point at a time. Others wait, within their timeout.
	maxAsked = 64
	// maxVerdict is the most bytes of an answer, maxReason of the reason in it that is passed on.
	maxVerdict = 64 << 10
	maxReason  = 200
)

// PointOptions are what a Point needs. URL, Client and OnFailure are required.
type PointOptions struct {
	URL     string
	Timeout time.Duration // for a decision, waiting included. 0: two seconds
	// OnFailure is what becomes of a request that the decision point does not decide about.
	OnFailure Effect
	Header    http.Header
	Client    *http.Client
}

// Point asks an HTTP decision point. It POSTs a JSON object that has the variables of conditions as its members, and takes the answer
// 200 with {"allow": true or false, "reason": "..."}. Anything else is a failure.
type Point struct {
	PointOptions
	places chan struct{}
}

// NewPoint returns a Point.
func NewPoint(o PointOptions) *Point {
	o.Timeout = cmp.Or(o.Timeout, 2*time.Second)
	return &Point{PointOptions: o, places: make(chan struct{}, maxAsked)}
}

// document is a request as a decision point is told of it.
type document struct {
	ParticipantContext string              `json:"participant_context"`
	Participant        string              `json:"participant"`
	Counterparty       string              `json:"counterparty"`
	Agreement          string              `json:"agreement"`
	Dataset            string              `json:"dataset"`
	Flow               string              `json:"flow"`
	Role               string              `json:"role"`
	Direction          string              `json:"direction"`
	Profile            string              `json:"profile"`
	ControlPlane       string              `json:"control_plane"`
	Labels             []string            `json:"labels"`
	Claims             json.RawMessage     `json:"claims"`
	Metadata           json.RawMessage     `json:"metadata"`
	Method             string              `json:"method"`
	Path               string              `json:"path"`
	Query              map[string][]string `json:"query"`
	Headers            map[string]string   `json:"headers"`
	Operation          string              `json:"operation"`
	Part               string              `json:"part"`
	RemoteAddress      string              `json:"remote_address"`
	Time               moment              `json:"time"`
}

func newDocument(r *Request) (document, error) {
	q, err := r.query()
	d := document{
		ParticipantContext: r.ParticipantContext, Participant: r.Participant, Counterparty: r.Counterparty, Agreement: r.Agreement,
		Dataset: r.Dataset, Flow: r.Flow, Role: r.Role, Direction: r.Direction, Profile: r.Profile, ControlPlane: r.ControlPlane,
		Labels: append([]string{}, r.Labels...), Claims: r.Claims, Metadata: r.Metadata, Method: r.Method, Path: r.Path, Query: q,
		Headers: headers(r.Header), Operation: r.Operation, Part: r.Part, RemoteAddress: r.RemoteAddress, Time: newMoment(r.Time),
	}
	for _, object := range []*json.RawMessage{&d.Claims, &d.Metadata} {
		if len(*object) == 0 {
			*object = json.RawMessage("{}")
		}
	}
	return d, err
}

// verdict is what a decision point answers.
type verdict struct {
	Allow  *bool  `json:"allow"`
	Reason string `json:"reason"`
}

func (p *Point) ask(ctx context.Context, r *Request) decision {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	v, err := p.verdict(ctx, r)
	switch {
	case err != nil:
		return decision{effect: p.OnFailure, by: ByPoint, reason: "it could not decide", failed: err}
	case *v.Allow:
		return decision{effect: Allow, by: ByPoint, reason: shortened(v.Reason)}
	}
	return decision{effect: Deny, by: ByPoint, reason: shortened(v.Reason)}
}

func (p *Point) verdict(ctx context.Context, r *Request) (v verdict, err error) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return v, errors.New("too many requests wait for the decision point")
	}
	d, err := newDocument(r)
	if err != nil {
		return v, err
	}
	body, err := json.Marshal(d)
	if err != nil {
		return v, fmt.Errorf("encode the request: %w", err)
	}
	answer, err := p.post(ctx, body)
	if err != nil {
		return v, fmt.Errorf("ask the decision point: %w", err)
	}
	if err := json.Unmarshal(answer, &v); err != nil || v.Allow == nil {
		return v, errors.New("the answer of the decision point is no JSON object with the member allow")
	}
	return v, nil
}

// post returns the body of the answer. Its errors do not have the URL, which can hold a secret.
func (p *Point) post(ctx context.Context, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	for name, values := range p.Header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := p.Client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxVerdict+1))
	switch {
	case err != nil:
		return nil, withoutURL(err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("its answer has the status %d", resp.StatusCode)
	case len(answer) > maxVerdict:
		return nil, fmt.Errorf("its answer has more than %d bytes", maxVerdict)
	}
	return answer, nil
}

func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// shortened makes a reason fit for an answer and a log.
func shortened(reason string) string {
	reason = oneLine(reason)
	for len(reason) > maxReason {
		_, n := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-n]
	}
	return reason
}

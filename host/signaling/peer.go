package signaling

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// peer is a control plane, or another API of the same operator, as this side calls it.
type peer struct {
	http    *http.Client
	timeout time.Duration
	auth    authorizer
}

// reply is what a peer answered.
type reply struct {
	*http.Response
	body []byte // as much of it as was asked for
}

// repeatsCredential reports whether an answer has what went with its request to prove who sends it.
func (r *reply) repeatsCredential() bool {
	return slices.ContainsFunc(credentials(r.Response), func(secret string) bool { return repeats(r.body, secret) })
}

// credentials are what in the header of an answer's request proves who sent it: all but what every request has.
func credentials(answer *http.Response) []string {
	if answer.Request == nil {
		return nil
	}
	var all []string
	for name, values := range answer.Request.Header {
		if name == "Accept" || name == "Content-Type" || values[0] == "" {
			continue
		}
		value := values[0]
		if _, credential, ok := strings.Cut(value, " "); ok && name == authorization {
			value = credential
		}
		all = append(all, value)
	}
	return all
}

// exchange makes a request, and makes it once more if the peer refused the authorization and there is another one. It returns at most
// the first `most` bytes of the answer's body. The failure is for the operator and repeats no secret.
func (p *peer) exchange(ctx context.Context, method, url string, message []byte, most int64) (*reply, *failure) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	for again := false; ; again = true {
		r, err := newRequest(ctx, method, url, message)
		if err != nil {
			return nil, &failure{text: "the URL to call is not valid"}
		}
		if err := p.auth.authorize(ctx, r); err != nil {
			return nil, p.unauthorized(err)
		}
		answer, err := p.send(r, most)
		if err != nil {
			return nil, &failure{text: sendFailure(err, p.timeout)}
		}
		if again || answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusForbidden || !p.auth.refused(r) {
			return answer, nil
		}
	}
}

func newRequest(ctx context.Context, method, url string, message []byte) (*http.Request, error) {
	if message == nil {
		r, err := http.NewRequestWithContext(ctx, method, url, nil)
		if err == nil {
			r.Header.Set("Accept", "application/json")
		}
		return r, err
	}
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	return r, nil
}

func (p *peer) send(r *http.Request, most int64) (*reply, error) {
	response, err := p.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil && response.StatusCode/100 == 2 && most > maxResponse { // otherwise what there is will do
		return nil, err
	}
	return &reply{response, body}, nil
}

// unauthorized describes a failure to get an authorization.
func (p *peer) unauthorized(err error) *failure {
	f := &failure{text: "no authorization: " + printable(err.Error())}
	if errors.Is(err, context.DeadlineExceeded) {
		f.text = fmt.Sprintf("no authorization within %v", p.timeout)
	}
	var asked *delayError
	if errors.As(err, &asked) {
		f.retryAfter = asked.after
	}
	return f
}

// sendFailure describes an error of http.Client.Do without the URL, which the operator knows. timeout is what the request had, 0 if
// that is not known.
func sendFailure(err error, timeout time.Duration) string {
	if errors.Is(err, context.DeadlineExceeded) {
		if timeout == 0 {
			return "no answer in time"
		}
		return fmt.Sprintf("no answer within %v", timeout)
	}
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return printable(err.Error())
}

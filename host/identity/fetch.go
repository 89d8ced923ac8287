package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer is the most bytes of a key set or a DID document.
const maxAnswer = 1 << 20

// errNoAnswer says that a request got no answer at all.
var errNoAnswer = errors.New("no answer")

// get returns what is at an address, and how long it may be used: max-age, but no longer than most. Errors have the host only, since
// what follows it can be a secret.
func get(ctx context.Context, client *http.Client, address, accept string, most time.Duration) ([]byte, time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, errors.New("the address of the keys is malformed")
	}
	request.Header.Set("Accept", accept)
	answer, err := client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, 0, fmt.Errorf("%w from %s: %w", errNoAnswer, request.URL.Host, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s answered %d instead of 200", request.URL.Host, answer.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("read the answer of %s: %w", request.URL.Host, err)
	case len(body) > maxAnswer:
		return nil, 0, fmt.Errorf("the answer of %s has more than %d bytes", request.URL.Host, maxAnswer)
	}
	return body, maxAge(answer.Header, most), nil
}

// maxAge returns the max-age of an answer, most if it has none or a longer one.
func maxAge(header http.Header, most time.Duration) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(header.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
		if err == nil {
			return min(time.Duration(seconds)*time.Second, most)
		}
	}
	return most
}

package renewal

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// maxAnswer is the most bytes of an answer.
const maxAnswer = 64 << 10

// maxRetryAfter is the longest wait that a counterparty can ask for.
const maxRetryAfter = time.Hour

// tokens are what a renewal brings.
type tokens struct {
	access  string
	refresh string        // "": the old one stays good
	expires time.Duration // 0 if that is not said
}

// parseAnswer reads a success (RFC 6749, section 5.1). One that makes no sense can be a passing fault of something in between, and
// the refresh token that was sent stays good until the new access token is used; so the error is retryable.
func parseAnswer(host string, body []byte) (tokens, error) {
	var a struct {
		Access  string          `json:"access_token"`
		Refresh *string         `json:"refresh_token"`
		Type    string          `json:"token_type"`
		Expires json.RawMessage `json:"expires_in"`
	}
	if len(body) > maxAnswer {
		return tokens{}, sdk.Retryf(sdk.Unavailable, "the answer of %s has more than %d bytes", host, maxAnswer)
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return tokens{}, sdk.Retryf(sdk.Unavailable, "the answer of %s is not the JSON that RFC 6749 describes", host)
	}
	t := tokens{access: a.Access}
	if a.Refresh != nil {
		t.refresh = *a.Refresh
	}
	switch {
	case t.access == "":
		return tokens{}, sdk.Retryf(sdk.Unavailable, "the answer of %s has no access_token", host)
	case strings.ContainsFunc(t.access+t.refresh, notInToken):
		return tokens{}, sdk.Retryf(sdk.Unavailable, "the answer of %s has a token with characters that none can have", host)
	case a.Type != "" && !strings.EqualFold(a.Type, "bearer"):
		return tokens{}, sdk.Errorf(sdk.Denied, "%s gives tokens that are not of type bearer", host)
	}
	// Some write the number as a string, as it is in an address.
	t.expires = seconds(strings.Trim(string(a.Expires), `"`))
	return t, nil
}

// notInToken reports whether a character cannot be in a token (RFC 6749, appendix A).
func notInToken(r rune) bool { return r < 0x20 || r > 0x7e }

// refusal turns an answer other than 200 into an error. It is final if it says that the tokens or our proof are not good, which a
// repetition does not change.
func refusal(host string, response *http.Response, body []byte) error {
	text := "%s answered %d"
	args := []any{host, response.StatusCode}
	if reason := errorCode(body); reason != "" {
		text += " (%s)"
		args = append(args, reason)
	}
	switch status := response.StatusCode; {
	case status == http.StatusNotFound, status == http.StatusRequestTimeout, status == http.StatusTooEarly,
		status == http.StatusTooManyRequests, status >= 500, status < 300:
		err := sdk.Retryf(sdk.Unavailable, text, args...)
		err.RetryAfter = retryAfter(response.Header)
		return err
	}
	return sdk.Errorf(sdk.Denied, text, args...)
}

// errorCodes are those of RFC 6749 and its extensions that can come from a token endpoint.
var errorCodes = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	"invalid_target", "temporarily_unavailable", "server_error",
}

// errorCode returns the error of an answer (RFC 6749, section 5.2). What else it says is not repeated: it could be a token.
func errorCode(body []byte) string {
	var a struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &a) != nil || !slices.Contains(errorCodes, a.Error) {
		return ""
	}
	return a.Error
}

func retryAfter(header http.Header) time.Duration {
	n, err := strconv.ParseUint(header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxRetryAfter)
}

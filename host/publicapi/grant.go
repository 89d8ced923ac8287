package publicapi

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"
)

const (
	formType = "application/x-www-form-urlencoded"
	// maxGrant is the most bytes of the body of a renewal.
	maxGrant = 64 << 10
)

// readRefreshToken returns the refresh token of a request for new tokens.
func readRefreshToken(x *exchange) (string, error) {
	over := grantError{http.StatusRequestEntityTooLarge, badGrantRequest.code}.refuse("the body is longer than 65536 bytes")
	if x.r.ContentLength > maxGrant {
		return "", over
	}
	timer := time.AfterFunc(grantTime, x.stopReading)
	body, err := io.ReadAll(io.LimitReader(x, maxGrant+1))
	if !timer.Stop() && err != nil {
		err = tooSlow.because("the body took too long")
	}
	if err != nil {
		return "", err
	}
	if len(body) > maxGrant {
		return "", over
	}
	if len(body) > 0 {
		if err := checkForm(x.r.Header); err != nil {
			return "", err
		}
	}
	return parseGrant(x.r.URL.RawQuery, string(body))
}

// checkForm refuses a body that says that it is no form. One that says nothing is taken for one.
func checkForm(h http.Header) error {
	other := grantError{http.StatusUnsupportedMediaType, badGrantRequest.code}
	if field := h.Get("Content-Type"); field != "" {
		if mediaType, _, err := mime.ParseMediaType(field); err != nil || mediaType != formType {
			return other.refuse("the body has to be " + formType)
		}
	}
	if h.Get("Content-Encoding") != "" {
		return other.refuse("the body must not be encoded")
	}
	return nil
}

// parseGrant returns the refresh token of a query and a form. Parameters are taken from either; what both have has to be the same.
func parseGrant(query, form string) (refresh string, err error) {
	inQuery, err := url.ParseQuery(query)
	if err != nil {
		return "", badGrantRequest.refuse("the query is malformed")
	}
	inForm, err := url.ParseQuery(form)
	if err != nil {
		return "", badGrantRequest.refuse("the body is malformed")
	}
	grant, err := parameter("grant_type", inForm, inQuery)
	if err != nil {
		return "", err
	}
	refresh, err = parameter("refresh_token", inForm, inQuery)
	switch {
	case err != nil:
		return "", err
	case grant == "":
		return "", badGrantRequest.refuse("grant_type is missing")
	case grant != "refresh_token":
		return "", otherGrant.refuse("grant_type has to be refresh_token")
	case refresh == "":
		return "", badGrantRequest.refuse("refresh_token is missing")
	}
	return refresh, nil
}

// parameter returns the value of a parameter, "" if there is none. One without a value counts as left out.
func parameter(name string, places ...url.Values) (value string, err error) {
	for _, place := range places {
		given := place[name]
		switch {
		case len(given) > 1:
			return "", badGrantRequest.refuse(name + " is there more than once")
		case len(given) == 0, given[0] == "":
		case value != "" && value != given[0]:
			return "", badGrantRequest.refuse(name + " in the query is not the one in the body")
		default:
			value = given[0]
		}
	}
	return value, nil
}

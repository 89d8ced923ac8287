package renewal

import (
	"strconv"
	"strings"
	"time"

	"github.com/towpath-dataplane/towpath/sdk"
)

// The properties of a renewable address, by their local names.
const (
	authorization   = "authorization"
	refreshToken    = "refreshToken"
	expiresIn       = "expiresIn"
	refreshEndpoint = "refreshEndpoint"
)

// tractusX is what the names of Tractus-X begin with. There, /token is appended to the refreshEndpoint.
const tractusX = "https://w3id.org/tractusx/auth/"

// refreshAddress returns where tokens are renewed: the refreshEndpoint, otherwise the endpoint.
func refreshAddress(a sdk.DataAddress) string {
	name := nameOf(a, refreshEndpoint)
	address := a.Properties[name]
	switch {
	case address == "" && a.Endpoint == "":
		return a.Get("endpoint") // where EDC puts it
	case address == "":
		return a.Endpoint
	case name == tractusX+refreshEndpoint && !strings.HasSuffix(address, "/token"):
		return strings.TrimSuffix(address, "/") + "/token"
	}
	return address
}

// nameOf returns the name of the property that a.Get returns, "" if there is none.
func nameOf(a sdk.DataAddress, local string) string {
	if _, ok := a.Properties[local]; ok {
		return local
	}
	found := ""
	for name := range a.Properties {
		if sdk.LocalName(name) == local && (found == "" || name < found) {
			found = name
		}
	}
	return found
}

// writtenTo returns the address with the tokens in place of the old ones. A value that is there under several names is replaced under
// each of them.
func (t tokens) writtenTo(a sdk.DataAddress) sdk.DataAddress {
	renewed := a.Clone()
	replace := func(local, value string) {
		old := a.Get(local)
		for name, v := range a.Properties {
			if sdk.LocalName(name) == local && v == old {
				renewed.Properties[name] = value
			}
		}
	}
	replace(authorization, t.access)
	if t.refresh != "" {
		replace(refreshToken, t.refresh)
	}
	if t.expires == 0 {
		return renewed
	}
	value := strconv.Itoa(int(t.expires / time.Second))
	if nameOf(a, expiresIn) == "" {
		renewed.Properties[strings.TrimSuffix(nameOf(a, refreshToken), refreshToken)+expiresIn] = value
	}
	replace(expiresIn, value)
	return renewed
}

// seconds reads a number of seconds, 0 if it is none.
func seconds(s string) time.Duration {
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || n != n {
		return 0
	}
	return clamp(n)
}

const (
	minLife = time.Second
	maxLife = 30 * 24 * time.Hour
)

// clamp returns a number of seconds that a token can live for.
func clamp(seconds float64) time.Duration {
	return time.Duration(min(max(seconds, minLife.Seconds()), maxLife.Seconds())) * time.Second
}

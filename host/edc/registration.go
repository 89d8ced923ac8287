package edc

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// dataPlanes is where data planes are registered, below a control plane's endpoint.
const dataPlanes = "/v1/dataplanes"

// instanceMessage is the JSON-LD of a DataPlaneInstance.
type instanceMessage struct {
	Context        map[string]string `json:"@context"`
	Type           string            `json:"@type"`
	ID             string            `json:"@id"`
	URL            string            `json:"url"`
	SourceTypes    []string          `json:"allowedSourceTypes"`
	TransferTypes  []string          `json:"allowedTransferTypes"`
	ProvisionTypes []string          `json:"destinationProvisionTypes,omitempty"`
}

// Registration returns the URL to which a registration is POSTed, and the body. Registering again replaces what is there. Of the profiles,
// those are told whose names are transfer types (IsTransferType). The control plane takes no registration without any, or without a type of
// sources: the error says what is missing.
func (c *Client) Registration(endpoint, id, api string, profiles, sources []string) (string, []byte, error) {
	m := instanceMessage{Context: map[string]string{"@vocab": namespace}, Type: "DataPlaneInstance", ID: id, URL: api,
		SourceTypes: sources, ProvisionTypes: c.ProvisionTypes}
	for _, p := range profiles {
		if IsTransferType(p) {
			m.TransferTypes = append(m.TransferTypes, p)
		}
	}
	switch {
	case len(sources) == 0:
		return "", nil, errors.New("there is nothing to register: no plugin reads anything at present")
	case len(m.TransferTypes) == 0:
		return "", nil, errors.New("there is nothing to register: of the profiles with names as HttpData-PULL, the plugins can serve none at present")
	}
	return strings.TrimRight(endpoint, "/") + dataPlanes, encode(m), nil
}

// IsTransferType reports whether a name has the form DEST-PUSH or DEST-PULL, with -RESPONSE at its end or without.
func IsTransferType(name string) bool {
	parts := strings.Split(name, "-")
	return (len(parts) == 2 || len(parts) == 3) && !slices.Contains(parts, "") && (parts[1] == "PUSH" || parts[1] == "PULL")
}

// Registered is the URL of a data plane that is registered.
func (*Client) Registered(endpoint, id string) string {
	return strings.TrimRight(endpoint, "/") + dataPlanes + "/" + url.PathEscape(id)
}

// Deregistration returns the requests, each a method and a URL, that end a registration, of which the first does that the control plane has.
func (c *Client) Deregistration(endpoint, id string) [][2]string {
	at := c.Registered(endpoint, id)
	return [][2]string{{http.MethodDelete, at}, {http.MethodPut, at + "/unregister"}}
}

// Lost reads the answer to a GET of a registered data plane: whether the control plane does not know it any more. One that was unregistered
// there is known, and stays as its operator wants it.
func (*Client) Lost(status int, body []byte) bool {
	if status != http.StatusNotFound {
		return false
	}
	// A page that something in between has made is no answer of a control plane, whose errors are JSON, or nothing at all.
	return len(body) == 0 || json.Valid(body)
}

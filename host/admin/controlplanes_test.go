package admin_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towpath-dataplane/towpath/host/admin"
	"github.com/towpath-dataplane/towpath/sdk"
)

// registrar knows two control planes; that of the other context cannot be reached.
type registrar struct {
	mu  sync.Mutex
	all []admin.ControlPlane
}

func newRegistrar() *registrar {
	return &registrar{all: []admin.ControlPlane{
		{ID: "cp", Context: "default", Endpoint: "https://user:planted-secret@cp.example/api?key=planted-secret", Protocol: "dps",
			Authorization: []string{"oauth2_client_credentials"}, Origin: admin.OriginFile, Registration: &admin.Registration{
				Status: "pending", Endpoint: "https://cp.example/management?key=planted-secret", Attempts: 2}},
		{ID: "urn:cp/1", Context: "alice", Endpoint: "https://alice.example", Protocol: "dps", Origin: admin.OriginAPI},
	}}
}

func (r *registrar) List(context.Context) ([]admin.ControlPlane, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all), nil
}

func (r *registrar) Register(_ context.Context, participantContext, id string) error {
	return r.set(participantContext, id, "registered")
}

func (r *registrar) Deregister(_ context.Context, participantContext, id string) error {
	return r.set(participantContext, id, "deregistered")
}

func (r *registrar) set(participantContext, id, status string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.all, func(c admin.ControlPlane) bool { return c.Context == participantContext && c.ID == id })
	switch {
	case i < 0:
		return sdk.Errorf(sdk.NotFound, "there is no control plane %q", id)
	case r.all[i].Registration == nil:
		return sdk.Errorf(sdk.Unsupported, "no registration is configured for control plane %q", id)
	}
	now := time.Now()
	r.all[i].Registration = &admin.Registration{Status: status, Endpoint: r.all[i].Registration.Endpoint, Since: &now}
	return nil
}

func TestControlPlanes(t *testing.T) {
	w := newFullWorld(t)
	status, body := w.get("/api/v1/controlplanes")
	list := decode[admin.ControlPlaneList](t, status, body)
	if len(list.ControlPlanes) != 2 || list.ControlPlanes[0].Endpoint != "https://cp.example/api" ||
		list.ControlPlanes[0].Registration.Endpoint != "https://cp.example/management" || strings.Contains(body, "planted-secret") {
		t.Error(body)
	}
	status, body = w.get("/api/v1/controlplanes?context=alice")
	if list = decode[admin.ControlPlaneList](t, status, body); len(list.ControlPlanes) != 1 || list.ControlPlanes[0].ID != "urn:cp/1" {
		t.Error(body)
	}
	for _, c := range []struct {
		path   string
		status int
		body   string
	}{
		{"cp/register", 200, `"registered"`},
		{"cp/deregister", 200, `"deregistered"`},
		{"cp/deregister", 200, `"deregistered"`},
		{"none/register", 404, "no control plane"},
		{"urn:cp%2F1/register", 404, "no control plane"}, // in the default context
		{"urn:cp%2F1/register?context=alice", 409, "no registration is configured"},
		{"cp/forget", 404, "nothing"},
	} {
		if status, body := w.do("POST", "/api/v1/controlplanes/"+c.path, ""); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %s", c.path, status, body)
		}
	}
}

package admin

import (
	"context"
	"net/http"
	"slices"
)

// ControlPlanes is what the API shows of control planes, and lets an operator do with them. It is called concurrently.
//
// Errors for clients are *sdk.Error: NotFound if there is no such control plane, Unsupported if nothing is configured for a registration
// with it, Unavailable if it cannot be reached, Denied if it refuses. Everything else is a failure of ours.
type ControlPlanes interface {
	// List returns all, with endpoints as they are: the API shows them without what could be a secret.
	List(ctx context.Context) ([]ControlPlane, error)
	// Register makes this data plane known to a control plane, again if it is, and returns when that is done or has failed.
	Register(ctx context.Context, participantContext, id string) error
	// Deregister takes a registration back. It is idempotent.
	Deregister(ctx context.Context, participantContext, id string) error
}

func (h handler) controlPlanes(w http.ResponseWriter, r *http.Request) {
	list, err := h.listControlPlanes(r.Context())
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	if only := r.URL.Query().Get("context"); only != "" {
		list = slices.DeleteFunc(list, func(c ControlPlane) bool { return c.Context != only })
	}
	reply(w, http.StatusOK, ControlPlaneList{ControlPlanes: list})
}

func (h handler) listControlPlanes(ctx context.Context) ([]ControlPlane, error) {
	list, err := h.ControlPlanes.List(ctx)
	if err != nil {
		return nil, err
	}
	shown := make([]ControlPlane, 0, len(list))
	for _, c := range list {
		c.Endpoint = plainURL(c.Endpoint)
		if c.Registration != nil {
			registration := *c.Registration
			registration.Endpoint = plainURL(registration.Endpoint)
			c.Registration = &registration
		}
		shown = append(shown, c)
	}
	return shown, nil
}

func (h handler) register(w http.ResponseWriter, r *http.Request) {
	h.changeRegistration(w, r, h.ControlPlanes.Register)
}

func (h handler) deregister(w http.ResponseWriter, r *http.Request) {
	h.changeRegistration(w, r, h.ControlPlanes.Deregister)
}

// changeRegistration answers with what the control plane is afterwards.
func (h handler) changeRegistration(w http.ResponseWriter, r *http.Request, change func(context.Context, string, string) error) {
	participantContext, id := contextOf(r), r.PathValue("id")
	if err := change(r.Context(), participantContext, id); err != nil {
		h.refuse(w, r, err)
		return
	}
	list, err := h.listControlPlanes(r.Context())
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	i := slices.IndexFunc(list, func(c ControlPlane) bool { return c.Context == participantContext && c.ID == id })
	if i < 0 {
		newProblem(http.StatusNotFound, "there is no control plane %.300q any more", id).write(w)
		return
	}
	reply(w, http.StatusOK, list[i])
}

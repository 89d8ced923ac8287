package admin

import (
	"encoding/json"
	"net/http"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// operate does something to a flow, and answers with what it is then.
func (h handler) operate(do func(r *http.Request, key flow.Key) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key := keyOf(r)
		if err := do(r, key); err != nil {
			h.refuse(w, r, err)
			return
		}
		f, err := h.Store.Flow(r.Context(), key)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		reply(w, http.StatusOK, h.show(f))
	}
}

func (h handler) retry(r *http.Request, key flow.Key) error {
	return h.Operations.Retry(r.Context(), key)
}

func (h handler) skip(r *http.Request, key flow.Key) error {
	return h.Operations.Skip(r.Context(), key, r.URL.Query().Get("part"))
}

func (h handler) resend(r *http.Request, key flow.Key) error {
	return h.Operations.Resend(r.Context(), key)
}

func (h handler) abort(r *http.Request, key flow.Key) error {
	return h.Operations.Abort(r.Context(), key, r.URL.Query().Get("reason"))
}

func (h handler) address(w http.ResponseWriter, r *http.Request) {
	a, err := h.Operations.Address(r.Context(), keyOf(r))
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	reply(w, http.StatusOK, a)
}

// dataPattern is the path of all data of a flow, below which there are the parts.
const dataPattern = "GET /api/v1/flows/{id}/data"

// data reads through to the counterparty.
func (h handler) data(w http.ResponseWriter, r *http.Request) {
	part := r.PathValue("name")
	if r.Pattern != dataPattern && part == "" {
		newProblem(http.StatusNotFound, "a part has a name").write(w)
		return
	}
	key := keyOf(r)
	r = r.Clone(r.Context())
	r.Header.Del("Authorization") // was for this API, and is nobody else's business
	w.Header().Set("Cache-Control", "no-store")
	h.Read(key, part).ServeHTTP(w, r)
}

func (h handler) agreement(w http.ResponseWriter, r *http.Request) {
	f, err := h.Store.Flow(r.Context(), keyOf(r))
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	agreement, err := h.Agreement(r.Context(), f)
	if err == nil && !json.Valid(agreement) {
		err = sdk.Errorf(sdk.Corrupt, "what control plane %q answered is not JSON", f.ControlPlane)
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	reply(w, http.StatusOK, agreement)
}

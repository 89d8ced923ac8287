package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/host/limit"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Limits are the limits that are set through the API, and kept as documents. They go before those of the configuration. Those of a flow
// go with it. All methods may be called concurrently.
type Limits struct {
	limiter   *limit.Limiter
	documents flow.Documents
	flows     flow.Store
	contexts  []string

	changing sync.Mutex // one change at a time, so that what holds follows the documents in their order
}

// LimitOptions are what Limits are made of. All fields are required but Contexts.
type LimitOptions struct {
	// Limiter holds flows to what is set. It knows what is configured.
	Limiter *limit.Limiter
	// Contexts are the participant contexts that there are besides the default one.
	Contexts  []string
	Documents flow.Documents
	Flows     flow.Store
	Logger    *slog.Logger
}

// limitKind is the kind of a limit's document.
const limitKind = "limit"

// LoadLimits puts the limits that were set into the limiter. A document that cannot be read is logged and left where it is.
func LoadLimits(ctx context.Context, o LimitOptions) (*Limits, error) {
	l := &Limits{limiter: o.Limiter, documents: o.Documents, flows: o.Flows, contexts: append([]string{flow.DefaultContext}, o.Contexts...)}
	documents, err := o.Documents.Documents(ctx, limitKind)
	if err != nil {
		return nil, fmt.Errorf("load limits: %w", err)
	}
	for _, d := range documents {
		kind, id, _ := strings.Cut(d.ID, "/")
		scope := limit.Scope{Kind: limit.Kind(kind), Context: d.Context, ID: id}
		put, wrong := decodeLimit(d.Content, limitMembers(scope))
		if len(wrong) > 0 {
			o.Logger.Error("stored limit is left out: it cannot be read", "limit", d.ID, "context", d.Context)
			continue
		}
		o.Limiter.Put(scope, put)
	}
	return l, nil
}

// Ended takes back what was set for a flow that has ended.
func (l *Limits) Ended(ctx context.Context, key flow.Key) error {
	scope := limit.Scope{Kind: limit.Flow, Context: key.Context, ID: key.ID}
	l.changing.Lock()
	defer l.changing.Unlock()
	if l.limiter.Rule(scope).Put.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if _, err := l.documents.DeleteDocument(ctx, limitKind, scope.Context, limitDocument(scope)); err != nil {
		return fmt.Errorf("clear the limit of %s: %w", scope, err)
	}
	l.limiter.Put(scope, limit.Limit{})
	return nil
}

// put sets a limit. The error is a *Problem if that cannot be, unless the store fails.
func (l *Limits) put(ctx context.Context, scope limit.Scope, put limit.Limit) error {
	content, err := json.Marshal(newLimitValues(put))
	if err != nil {
		return err
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := l.checkFlow(ctx, scope); err != nil {
		return err
	}
	err = l.documents.PutDocument(ctx, flow.Document{Kind: limitKind, Context: scope.Context, ID: limitDocument(scope), Content: content,
		Updated: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("store the limit of %s: %w", scope, err)
	}
	l.limiter.Put(scope, put)
	return nil
}

// checkFlow refuses limits for a flow that has ended: nobody would take them back. The error is a *Problem then. One that has not come
// yet may have some.
func (l *Limits) checkFlow(ctx context.Context, scope limit.Scope) error {
	if scope.Kind != limit.Flow || scope.ID == "" {
		return nil
	}
	f, err := l.flows.Flow(ctx, flow.Key{Context: scope.Context, ID: scope.ID})
	switch {
	case errors.Is(err, flow.ErrNotFound):
		return nil
	case err != nil:
		return err
	case f.State.Final():
		return newProblem(http.StatusConflict, "%.300s has ended: it is %s", scope, f.State)
	}
	return nil
}

// clear takes back what was set. The error is a *Problem if that is nothing, unless the store fails.
func (l *Limits) clear(ctx context.Context, scope limit.Scope) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	there, err := l.documents.DeleteDocument(ctx, limitKind, scope.Context, limitDocument(scope))
	if err != nil {
		return fmt.Errorf("clear the limit of %s: %w", scope, err)
	}
	l.limiter.Put(scope, limit.Limit{})
	if !there {
		return newProblem(http.StatusNotFound, "no limit is set for %.300s", scope)
	}
	return nil
}

// limitDocument is the id of the document of a scope.
func limitDocument(s limit.Scope) string { return string(s.Kind) + "/" + s.ID }

// The members of a limit.
const (
	bytesMember     = "bytesPerSecond"
	recordsMember   = "recordsPerSecond"
	transfersMember = "transfers"
	weightMember    = "weight"
)

// limitPath is where limits are, and what they can say. Without an {id} they are for the host, or for each of a kind that has none of
// its own.
type limitPath struct {
	path    string
	kind    limit.Kind
	members []string
}

var limitPaths = []limitPath{
	{"host", limit.Host, []string{bytesMember, recordsMember, transfersMember}},
	{"contexts/{id}", limit.Context, []string{bytesMember, recordsMember, transfersMember, weightMember}},
	{"counterparties", limit.Counterparty, []string{bytesMember, recordsMember, transfersMember, weightMember}},
	{"counterparties/{id}", limit.Counterparty, []string{bytesMember, recordsMember, transfersMember, weightMember}},
	{"datasets", limit.Dataset, []string{bytesMember, recordsMember, transfersMember}},
	{"datasets/{id}", limit.Dataset, []string{bytesMember, recordsMember, transfersMember, weightMember}},
	{"profiles/{id}", limit.Profile, []string{weightMember}},
	{"flows", limit.Flow, []string{bytesMember, recordsMember}},
	{"flows/{id}", limit.Flow, []string{bytesMember, recordsMember, weightMember}},
}

func (p limitPath) forOne() bool { return strings.HasSuffix(p.path, "/{id}") }

// limitMembers are those that the limit of a scope may have; none if there can be no such scope.
func limitMembers(s limit.Scope) []string {
	i := slices.IndexFunc(limitPaths, func(p limitPath) bool { return p.kind == s.Kind && p.forOne() == (s.ID != "") })
	if i < 0 {
		return nil
	}
	return limitPaths[i].members
}

// scopeOf is what a request is about. The error is a *Problem.
func (h handler) scopeOf(r *http.Request, at limitPath) (limit.Scope, error) {
	s := limit.Scope{Kind: at.kind, ID: r.PathValue("id")}
	named := r.URL.Query().Get("context")
	if !at.forOne() || at.kind == limit.Profile {
		if named != "" {
			return s, newProblem(http.StatusBadRequest, "context: what holds for all, and for profiles, is of no participant context")
		}
		return s, nil
	}
	if why := flow.CheckID(s.ID); why != "" {
		return s, newProblem(http.StatusBadRequest, "id: %s", why)
	}
	s.Context = contextOf(r)
	if at.kind == limit.Context {
		if named != "" && named != s.ID {
			return s, newProblem(http.StatusBadRequest, "context: is another one than the path names")
		}
		s.Context = s.ID
	}
	if !slices.Contains(h.Limits.contexts, s.Context) {
		return s, newProblem(http.StatusNotFound, "there is no participant context %.300q", s.Context)
	}
	return s, nil
}

func (h handler) limits(w http.ResponseWriter, r *http.Request) {
	list := LimitList{Limits: []Limit{}}
	for _, rule := range h.Limits.limiter.Rules() {
		if only := r.URL.Query().Get("context"); only == "" || rule.Context == only {
			list.Limits = append(list.Limits, newLimit(rule))
		}
	}
	reply(w, http.StatusOK, list)
}

func (h handler) limit(at limitPath) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scope, err := h.scopeOf(r, at)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		reply(w, http.StatusOK, newLimit(h.Limits.limiter.Rule(scope)))
	}
}

func (h handler) putLimit(at limitPath) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scope, err := h.scopeOf(r, at)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		body, err := readBody(w, r)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		put, fields := decodeLimit(body, at.members)
		if len(fields) > 0 {
			h.refuse(w, r, wrongFields(http.StatusBadRequest, fields))
			return
		}
		if err := h.Limits.put(r.Context(), scope, put); err != nil {
			h.refuse(w, r, err)
			return
		}
		h.Logger.Info("limit set", "scope", scope.Kind, "id", scope.ID, "context", scope.Context, "limit", newLimitValues(put).String())
		reply(w, http.StatusOK, newLimit(h.Limits.limiter.Rule(scope)))
	}
}

func (h handler) clearLimit(at limitPath) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scope, err := h.scopeOf(r, at)
		if err == nil {
			err = h.Limits.clear(r.Context(), scope)
		}
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		h.Logger.Info("limit cleared", "scope", scope.Kind, "id", scope.ID, "context", scope.Context)
		reply(w, http.StatusOK, newLimit(h.Limits.limiter.Rule(scope)))
	}
}

// decodeLimit reads a limit that may have some members, and says what is wrong with it.
func decodeLimit(body []byte, members []string) (l limit.Limit, wrong []sdk.FieldError) {
	o, wrong := decodeObject(body)
	if o == nil {
		return l, wrong
	}
	o.wrong = &wrong
	for name, into := range map[string]**int64{bytesMember: &l.Bytes, recordsMember: &l.Records, transfersMember: &l.Transfers, weightMember: &l.Weight} {
		least, most := int64(0), int64(1)<<53
		if name == weightMember {
			least, most = 1, limit.MaxWeight
		}
		if slices.Contains(members, name) {
			*into = o.number(name, least, most)
		}
	}
	o.end()
	if len(wrong) == 0 && l.IsZero() {
		wrong = []sdk.FieldError{{Message: "needs at least one of " + strings.Join(members, ", ")}}
	}
	slices.SortFunc(wrong, func(a, b sdk.FieldError) int { return strings.Compare(a.Field, b.Field) })
	return l, wrong
}

func newLimit(r limit.Rule) Limit {
	shown := Limit{Scope: string(r.Kind), Context: r.Context, ID: r.ID, InForce: newLimitValues(r.InForce),
		Waiting: r.Waiting, Running: r.Running, Queued: r.Queued}
	if !r.Configured.IsZero() {
		v := newLimitValues(r.Configured)
		shown.Configured = &v
	}
	if !r.Put.IsZero() {
		v := newLimitValues(r.Put)
		shown.Set = &v
	}
	return shown
}

func newLimitValues(l limit.Limit) LimitValues {
	return LimitValues{BytesPerSecond: l.Bytes, RecordsPerSecond: l.Records, Transfers: l.Transfers, Weight: l.Weight}
}

// String is for logs.
func (v LimitValues) String() string {
	var said []string
	for _, m := range []struct {
		name  string
		value *int64
	}{{bytesMember, v.BytesPerSecond}, {recordsMember, v.RecordsPerSecond}, {transfersMember, v.Transfers}, {weightMember, v.Weight}} {
		if m.value != nil {
			said = append(said, fmt.Sprintf("%s=%d", m.name, *m.value))
		}
	}
	return strings.Join(said, " ")
}

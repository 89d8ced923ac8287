package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// Datasets are the datasets of the configuration, and those that are put through the API and kept as documents. A flow keeps the
// addresses it began with: what becomes of its dataset does not touch it. All methods may be called concurrently.
type Datasets struct {
	documents flow.Documents
	checker   flow.Checker
	contexts  []string

	changing sync.Mutex   // one change at a time, so that memory follows the documents in their order
	mu       sync.RWMutex // guards what follows
	all      map[datasetKey]storedDataset
}

// DatasetOptions are what Datasets are made of. All fields are required but Configured and Contexts.
type DatasetOptions struct {
	// Configured are the datasets of the configuration. They go before documents of the same id, and cannot be changed.
	Configured []flow.Dataset
	// Contexts are the participant contexts that datasets may be put into, besides the default one.
	Contexts  []string
	Documents flow.Documents
	Checker   flow.Checker
	Logger    *slog.Logger
}

type datasetKey struct{ context, id string }

// storedDataset is a dataset with where it is from, and when it was put here.
type storedDataset struct {
	flow.Dataset
	origin  Origin
	updated time.Time
}

// datasetKind is the kind of a dataset's document.
const datasetKind = "dataset"

// storeTimeout bounds a change of a document, which is not given up when the client is.
const storeTimeout = 10 * time.Second

// LoadDatasets returns the datasets that there are. A document that cannot be read, or that the configuration stands in front of, is
// logged and left where it is.
func LoadDatasets(ctx context.Context, o DatasetOptions) (*Datasets, error) {
	d := &Datasets{documents: o.Documents, checker: o.Checker, contexts: append([]string{flow.DefaultContext}, o.Contexts...),
		all: map[datasetKey]storedDataset{}}
	documents, err := o.Documents.Documents(ctx, datasetKind)
	if err != nil {
		return nil, fmt.Errorf("load datasets: %w", err)
	}
	for _, document := range documents {
		dataset, fields := decodeDataset(document.Content)
		if len(fields) > 0 {
			o.Logger.Error("stored dataset is left out: it cannot be read", "dataset", document.ID, "context", document.Context)
			continue
		}
		dataset.ID, dataset.Context = document.ID, document.Context
		d.all[datasetKey{document.Context, document.ID}] = storedDataset{dataset, OriginAPI, document.Updated}
	}
	for _, dataset := range o.Configured {
		dataset.Context = cmp.Or(dataset.Context, flow.DefaultContext)
		key := datasetKey{dataset.Context, dataset.ID}
		if _, ok := d.all[key]; ok {
			o.Logger.Warn("stored dataset is left out: the configuration has one of that id", "dataset", dataset.ID, "context", dataset.Context)
		}
		d.all[key] = storedDataset{Dataset: dataset, origin: OriginFile}
	}
	return d, nil
}

// Lookup finds a dataset of a participant context.
func (d *Datasets) Lookup(context, id string) (flow.Dataset, bool) {
	dataset, ok := d.get(datasetKey{context, id})
	dataset.Source, dataset.Sink, dataset.Response = dataset.Source.Clone(), dataset.Sink.Clone(), dataset.Response.Clone()
	return dataset.Dataset, ok
}

func (d *Datasets) get(key datasetKey) (storedDataset, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	dataset, ok := d.all[key]
	return dataset, ok
}

// list returns the datasets of a context, "" for all, by context and id.
func (d *Datasets) list(context string) []storedDataset {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := slices.Collect(maps.Values(d.all))
	list = slices.DeleteFunc(list, func(s storedDataset) bool { return context != "" && s.Context != context })
	slices.SortFunc(list, func(a, b storedDataset) int {
		return cmp.Or(cmp.Compare(a.Context, b.Context), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Of returns the datasets of a participant context, by id.
func (d *Datasets) Of(context string) []flow.Dataset {
	var all []flow.Dataset
	for _, s := range d.list(context) {
		all = append(all, s.Dataset)
	}
	return all
}

// put creates or replaces a dataset, and returns what it is then. The error is a *Problem, unless the store fails.
func (d *Datasets) put(ctx context.Context, dataset flow.Dataset) (stored storedDataset, created bool, err error) {
	if !slices.Contains(d.contexts, dataset.Context) {
		return stored, false, wrongFields(http.StatusBadRequest, []sdk.FieldError{{Field: "context", Message: "there is no such participant context"}})
	}
	if err := d.changeable(dataset.Context, dataset.ID); err != nil {
		return stored, false, err
	}
	if err := d.check(ctx, dataset); err != nil {
		return stored, false, err
	}
	content, err := encodeDataset(dataset)
	if err != nil {
		return stored, false, err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	stored = storedDataset{dataset, OriginAPI, time.Now().UTC()}
	err = d.documents.PutDocument(ctx, flow.Document{Kind: datasetKind, Context: dataset.Context, ID: dataset.ID, Content: content,
		Updated: stored.updated})
	if err != nil {
		return stored, false, fmt.Errorf("store dataset %s: %w", dataset.ID, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key := datasetKey{dataset.Context, dataset.ID}
	_, replaced := d.all[key]
	d.all[key] = stored
	return stored, !replaced, nil
}

// remove ends a dataset that was put here. The error is a *Problem, unless the store fails.
func (d *Datasets) remove(ctx context.Context, contextID, id string) error {
	if err := d.changeable(contextID, id); err != nil {
		return err
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	there, err := d.documents.DeleteDocument(ctx, datasetKind, contextID, id)
	if err != nil {
		return fmt.Errorf("remove dataset %s: %w", id, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, datasetKey{contextID, id})
	if !there {
		return noDataset(id)
	}
	return nil
}

// changeable returns a *Problem if a dataset is one of the configuration.
func (d *Datasets) changeable(context, id string) error {
	if dataset, ok := d.get(datasetKey{context, id}); ok && dataset.origin == OriginFile {
		return newProblem(http.StatusConflict, "dataset %.300q is in the configuration, and is changed there", id)
	}
	return nil
}

// check has the plugins look at the addresses of a dataset.
func (d *Datasets) check(ctx context.Context, dataset flow.Dataset) error {
	for _, side := range []struct {
		name    string
		address sdk.DataAddress
		check   func(context.Context, sdk.DataAddress) error
	}{
		{"source", dataset.Source, d.checker.CheckSource},
		{"sink", dataset.Sink, d.checker.CheckSink},
		{"response", dataset.Response, d.checker.CheckSink},
	} {
		if side.address.IsZero() {
			continue
		}
		if err := side.check(ctx, side.address); err != nil {
			return addressRefusal(side.name, side.address, err)
		}
	}
	return nil
}

// addressRefusal returns what a plugin says against an address as what is wrong with the request. That it cannot say anything, or
// fails, is not the address's fault.
func addressRefusal(side string, a sdk.DataAddress, err error) error {
	var e *sdk.Error
	if !errors.As(err, &e) || e.Code == sdk.Unavailable || e.Code == sdk.Internal {
		return fmt.Errorf("check %s: %w", side, err)
	}
	fields := []sdk.FieldError{{Field: side, Message: e.Message}}
	if len(e.Fields) > 0 {
		fields = nil
	}
	for _, f := range e.Fields {
		fields = append(fields, sdk.FieldError{Field: addressField(side, a, f.Field), Message: f.Message})
	}
	return wrongFields(http.StatusUnprocessableEntity, fields)
}

// addressField is where a field of an address is in a dataset's JSON.
func addressField(side string, a sdk.DataAddress, field string) string {
	_, property := a.Properties[field]
	switch {
	case field == "":
		return side
	case !property && (field == "endpoint" || field == "type"):
		return side + "." + field
	}
	return side + ".properties." + field
}

func noDataset(id string) *Problem {
	return newProblem(http.StatusNotFound, "there is no dataset %.300q", id)
}

func (h handler) datasets(w http.ResponseWriter, r *http.Request) {
	list := DatasetList{Datasets: []Dataset{}}
	for _, d := range h.Datasets.list(r.URL.Query().Get("context")) {
		list.Datasets = append(list.Datasets, newDataset(d))
	}
	reply(w, http.StatusOK, list)
}

func (h handler) dataset(w http.ResponseWriter, r *http.Request) {
	d, ok := h.Datasets.get(datasetKey{contextOf(r), r.PathValue("id")})
	if !ok {
		h.refuse(w, r, noDataset(r.PathValue("id")))
		return
	}
	reply(w, http.StatusOK, newDataset(d))
}

func (h handler) putDataset(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	dataset, fields := decodeDataset(body)
	fields = append(fields, identify(&dataset, r)...)
	if len(fields) > 0 {
		h.refuse(w, r, wrongFields(http.StatusBadRequest, fields))
		return
	}
	stored, created, err := h.Datasets.put(r.Context(), dataset)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.Logger.Info("dataset put", "dataset", dataset.ID, "context", dataset.Context, "created", created)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	reply(w, status, newDataset(stored))
}

// identify takes the id and the context of a dataset from the request; a body may repeat them.
func identify(d *flow.Dataset, r *http.Request) (fields []sdk.FieldError) {
	id, named := r.PathValue("id"), r.URL.Query().Get("context")
	if why := flow.CheckID(id); why != "" {
		fields = append(fields, sdk.FieldError{Field: "id", Message: why})
	}
	if d.ID != "" && d.ID != id {
		fields = append(fields, sdk.FieldError{Field: "id", Message: "is another one than the request names"})
	}
	if d.Context != "" && named != "" && d.Context != named {
		fields = append(fields, sdk.FieldError{Field: "context", Message: "is another one than the request names"})
	}
	d.ID, d.Context = id, cmp.Or(named, d.Context, flow.DefaultContext)
	return fields
}

func (h handler) removeDataset(w http.ResponseWriter, r *http.Request) {
	context, id := contextOf(r), r.PathValue("id")
	if err := h.Datasets.remove(r.Context(), context, id); err != nil {
		h.refuse(w, r, err)
		return
	}
	h.Logger.Info("dataset removed", "dataset", id, "context", context)
	w.WriteHeader(http.StatusNoContent)
}

// datasetBody is a dataset as it is put, and as it is stored.
type datasetBody struct {
	ID      string           `json:"id,omitempty"`
	Context string           `json:"context,omitempty"`
	Mode    flow.Mode        `json:"mode,omitempty"`
	Source  *sdk.DataAddress `json:"source,omitempty"`
	Sink    *sdk.DataAddress `json:"sink,omitempty"`
	// Response is written with what comes back on the response channel of a flow that reads Source.
	Response *sdk.DataAddress `json:"response,omitempty"`
}

func encodeDataset(d flow.Dataset) ([]byte, error) {
	body := datasetBody{ID: d.ID, Context: d.Context, Mode: d.Mode}
	if !d.Source.IsZero() {
		body.Source = &d.Source
	}
	if !d.Sink.IsZero() {
		body.Sink = &d.Sink
	}
	if !d.Response.IsZero() {
		body.Response = &d.Response
	}
	return json.Marshal(body)
}

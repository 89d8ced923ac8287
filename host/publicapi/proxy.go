package publicapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/towpath-dataplane/towpath/host/flow"
	"github.com/towpath-dataplane/towpath/sdk"
)

// ProxyOptions say which pulls are handed on to the server behind the source, and what of them.
type ProxyOptions struct {
	// Proxies says whether the source of a type hands requests on. nil: none does.
	Proxies func(typ string) bool
	// Headers are more fields of requests to hand on than the usual ones, as httpfield.CheckForwarded takes them, in their canonical form.
	// With "Set-Cookie" among them that of answers comes back.
	Headers []string
}

// proxied is one request that is handed on.
type proxied struct {
	*exchange
	handler *Handler
	stay    *stay
	source  source
	flags   sdk.ProxyFlags
}

// proxies reports whether what is asked of a flow is handed on.
func (h *Handler) proxies(f *flow.Flow) bool {
	return sdk.ProxyFlagsOf(f.Local).Any() && h.Proxy.Proxies != nil && h.Proxy.Proxies(f.Local.Type)
}

// read answers a request for data: with what a server says to it, or with parts.
func (h *Handler) read(x *exchange, s *stay) error {
	switch {
	case h.proxies(s.flow):
		x.route.operation = proxyFlow
		return h.proxy(x, s)
	case x.route.operation == belowFlow:
		return notFound.because("nothing has this path")
	case !slices.Contains(methods[x.route.operation], x.r.Method):
		return wrongMethod.because("%s is not for this path", x.r.Method).with("Allow", allowed(x.route.operation))
	}
	return h.pull(x, s)
}

// proxy hands a request on, and answers with what comes back.
func (h *Handler) proxy(x *exchange, s *stay) error {
	data, err := h.Source(s.flow.Local.Type)
	if err != nil {
		return sourceProblem(err)
	}
	p := &proxied{exchange: x, handler: h, stay: s, flags: sdk.ProxyFlagsOf(s.flow.Local),
		source: source{data: data, stay: s, patience: h.Limits.IdleTimeout, replaced: h.Replaced}}
	request, err := p.request()
	if err != nil {
		return err
	}
	return p.handOn(request)
}

// request is what is handed on, or the refusal of what the flow's address does not let through.
func (p *proxied) request() (*sdk.ProxyRequest, error) {
	if err := p.checkMethod(); err != nil {
		return nil, err
	}
	out := &sdk.ProxyRequest{Method: p.r.Method}
	switch path := p.route.below; {
	case p.flags.Path && leadsAway(path):
		return nil, badRequest.because("the path has an element that leads elsewhere")
	case p.flags.Path:
		out.Path = path
	case path != "" && path != "/":
		return nil, notFound.because("the data flow has no paths")
	}
	if p.flags.Query {
		out.Query = p.r.URL.RawQuery
	}
	body := p.r.Body != nil && p.r.Body != http.NoBody && p.r.ContentLength != 0
	if body && !p.flags.Body {
		return nil, badRequest.because("the data flow takes no content")
	}
	out.Header = p.handler.forwarded(p.r.Header, body)
	if body {
		out.Size = max(p.r.ContentLength, sdk.SizeUnknown)
	}
	return out, p.allowance.check(max(0, out.Size))
}

func (p *proxied) checkMethod() error {
	if p.flags.Method {
		return nil
	}
	own := cmp.Or(p.stay.flow.Local.Get("method"), http.MethodGet)
	taken := []string{http.MethodGet}
	if own == http.MethodGet {
		taken = append(taken, http.MethodHead)
	} else {
		taken = append(taken, own)
	}
	if slices.Contains(taken, p.r.Method) {
		return nil
	}
	return wrongMethod.because("the data flow does not take %s", p.r.Method).with("Allow", strings.Join(taken, ", "))
}

// leadsAway reports whether an escaped path could lead out of where it begins: also for servers that take '\' for a slash, or what is
// behind ';' for something else.
func leadsAway(path string) bool {
	plain, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(strings.FieldsFunc(plain, func(r rune) bool { return r == '/' || r == '\\' }), func(element string) bool {
		name, _, _ := strings.Cut(element, ";")
		return name == "." || name == ".."
	})
}

// handOn hands the request on, with its body beside the answer.
func (p *proxied) handOn(request *sdk.ProxyRequest) error {
	ctx, cancel := context.WithCancelCause(p.stay.ctx)
	defer cancel(nil)
	waiting := startPatience(p.source.patience, func() { cancel(context.DeadlineExceeded) })
	defer waiting.end()
	var body *requestBody
	if request.Size != 0 {
		p.letSend()
		body = p.newBody(waiting)
		defer body.finish()
		request.Body = body
	}
	rd, begin, err := p.open(ctx, request)
	defer rd.close()
	waiting.end()
	if err != nil {
		return body.explain(proxyProblem(err))
	}
	err = p.answer(rd, begin)
	rd.close()
	if err != nil {
		return body.explain(err)
	}
	return p.finish(body)
}

// letSend lets the client send its body, also beside the answer.
func (p *proxied) letSend() {
	if p.r.ProtoMajor == 1 {
		p.connection.EnableFullDuplex() // otherwise an answer would first wait for all of the body
	}
	if strings.EqualFold(p.r.Header.Get("Expect"), "100-continue") {
		p.w.WriteHeader(http.StatusContinue) // or the answer could come first, and the client would send nothing
	}
}

// open opens a stream with the answer. What changes nothing is asked again of a plugin that has come in the place of another.
func (p *proxied) open(ctx context.Context, request *sdk.ProxyRequest) (*reading, *sdk.PartBegin, error) {
	open := sdk.ReadOpen{Flow: p.stay.flow.PluginContext(), Address: p.stay.flow.Local, Request: request, Once: true}
	begin := p.source.beginOnce
	if request.Body == nil && (request.Method == http.MethodGet || request.Method == http.MethodHead) {
		begin = p.source.begin
	}
	rd, first, err := begin(ctx, open)
	if err == nil && (first == nil || first.Response == nil) {
		err = sdk.Errorf(sdk.Internal, "the source did not answer a request")
	}
	return rd, first, err
}

// proxyProblem answers a failure before the server has said anything.
func proxyProblem(err error) *problem {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p
	}
	e := sdk.AsError(err)
	switch {
	case isTimeout(err):
		return backendSlow.because("no answer came in time").from(err)
	case e.Code == sdk.Invalid:
		return badRequest.because("the request cannot be handed on").from(err)
	case e.Code == sdk.Unavailable:
		return backendFailed.because("where the data lives cannot be reached").from(err)
	}
	return sourceProblem(err)
}

// answer gives back what the server says.
func (p *proxied) answer(rd *reading, begin *sdk.PartBegin) error {
	status, length := begin.Response.Status, begin.Size
	if begin.PartInfo.Records || status < 200 || status > 599 {
		return backendFailed.because("the failure was logged").from(sdk.Errorf(sdk.Internal, "the source answered with status %d", status))
	}
	bare := p.r.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
	p.eager = !bare
	if !bare {
		if err := p.checkLength(length); err != nil {
			return err
		}
	}
	p.giveBack(begin.Response.Header)
	if said := lastField(begin.Response.Header, "Content-Length"); bare && status != http.StatusNoContent && said != "" {
		p.header()["Content-Length"] = []string{said}
	} else if !bare && length >= 0 {
		p.header()["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	begins := p.begin
	if length >= 0 {
		begins = p.beginHeader // goes with the first bytes
	}
	if err := begins(status); err != nil {
		return err
	}
	trailer, err := p.copyBody(rd, length)
	for name, values := range p.handler.back(trailer) {
		p.header()[http.TrailerPrefix+name] = values
	}
	return err
}

// checkLength refuses what the token may not move any more, and an answer of unknown length to a client that could not tell its end.
func (p *proxied) checkLength(length int64) error {
	if length < 0 && !p.r.ProtoAtLeast(1, 1) {
		return oldHTTP.because("the length of the answer is not known beforehand")
	}
	return p.allowance.check(max(0, length))
}

// copyBody writes the body and returns what stood behind it.
func (p *proxied) copyBody(rd *reading, length int64) (trailer []sdk.HeaderField, err error) {
	c := copying{w: p, length: length, ended: func(e *sdk.PartEnd) { trailer = e.Trailer }, last: rd.nothingElse}
	return trailer, c.from(rd)
}

// finish sends what is still buffered. A client that still sends although all is said gets some time to come to its end, or to see the
// answer.
func (p *proxied) finish(body *requestBody) error {
	if err := p.flush(); err != nil || body.ends(0) {
		return err
	}
	p.stay.leave()
	if body.ends(lingerTime) {
		return nil
	}
	body.finish()
	if !p.stopped() {
		return nil
	}
	last := ""
	if _, whole := p.header()["Content-Length"]; !whole && p.eager {
		last = "0\r\n" + trailerOf(p.header()) + "\r\n" // the chunk that ends the answer
	}
	p.linger(last)
	return nil
}

// trailerOf is the trailer of an answer as it is on the wire.
func trailerOf(h http.Header) string {
	var b strings.Builder
	for name, values := range h {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			for _, v := range values {
				b.WriteString(name + ": " + v + "\r\n")
			}
		}
	}
	return b.String()
}

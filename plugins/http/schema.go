package main

import (
	"slices"

	"github.com/towpath-dataplane/towpath/sdk"
)

// sourceSchema lists the properties of an address that is read.
func sourceSchema() sdk.Schema {
	return sdk.Schema{Open: true, Fields: slices.Concat(commonFields(), []sdk.Field{
		{Name: "method", Default: "GET", Documentation: "Method of the request."},
		{Name: "name", Documentation: "Name of the part. Otherwise it is the file name that the server gives, or the end of the URL's path."},
		{Name: "contentType", Documentation: "Media type of the part if the server gives none."},
		{Name: "proxyPath", Kind: sdk.Bool, Documentation: "Hand on what stands behind the flow's path in a counterparty's request, in place " +
			"of `path`. Without it a request with a path has no answer (404)." + proxied},
		{Name: "proxyQueryParams", Kind: sdk.Bool, Documentation: "Add the query of a counterparty's request to `queryParams`. Without it the " +
			"query is left out."},
		{Name: "proxyMethod", Kind: sdk.Bool, Documentation: "Use the method of a counterparty's request in place of `method`. Without it " +
			"only GET, HEAD if `method` is GET, and that of `method` are taken (405), and `method` is used."},
		{Name: "proxyBody", Kind: sdk.Bool, Documentation: "Hand on the body of a counterparty's request, as it comes. Without it a request " +
			"with a body is refused (400)."},
	})}
}

// proxied is said once of all properties that let requests through.
const proxied = " Each of the four `proxy` properties makes the flow a proxy: method, headers, ranges and conditions of a request reach " +
	"the server as far as these properties and the host let them, and its status, headers and body come back as they are. Redirects are " +
	"not followed. A path with `.` or `..` is refused. Requests that wait longer than `timeout` for the head of the answer, or `idle_timeout` for a " +
	"byte, are broken off."

// sinkSchema lists the properties of an address that is written to.
func sinkSchema() sdk.Schema {
	return sdk.Schema{Open: true, Fields: slices.Concat(commonFields(), []sdk.Field{
		{Name: "method", Default: "POST", OneOf: uploadMethods(), Documentation: "Method of the requests. PUT replaces one resource and takes a " +
			"single part."},
		{Name: "contentType", Default: defaultMediaType, Documentation: "Media type of parts that have none."},
		{Name: "nonChunkedTransfer", Kind: sdk.Bool, Documentation: "Never send a chunked body: a part of unknown size is stored in a temporary " +
			"file first."},
		{Name: "digestTrailer", Kind: sdk.Bool, Documentation: "Send the digest of a part over 256 KiB behind it, as the trailer Repr-Digest, which " +
			"takes a chunked body, without Content-Length in HTTP/1.1. Without it that is done only for a receiver that asks for digests " +
			"(Want-Repr-Digest in its answer to OPTIONS, see `resumable`). Smaller parts have their digest before them, and uploads that can " +
			"go on have it at their end, in any case."},
		{Name: "resumable", Kind: sdk.Bool, Documentation: "Ask the receiver with OPTIONS whether an upload can go on after a cut (resumable " +
			"uploads of the IETF). The default is true for an address with an endpoint, and false for any other: not every server takes " +
			"a question for one. A receiver that says so by itself, with 104, is believed in any case."},
		{Name: "manifestUrl", Kind: sdk.URL, Sensitive: true, Documentation: "Where to post the list of all parts, with sizes and digests, once " +
			"they are sent. It is on the host of the endpoint."},
		{Name: "digests", Documentation: "Digests wanted in the manifest besides `crc32c`, separated by commas: `sha256`."},
	})}
}

func commonFields() []sdk.Field {
	return []sdk.Field{
		{Name: "baseUrl", Kind: sdk.URL, Sensitive: true, Documentation: "URL of the server, for an address without an endpoint. Its query may be " +
			"a secret."},
		{Name: "path", Documentation: "Path below the URL, escaped as in a URL."},
		{Name: "queryParams", Sensitive: true, Documentation: "Query, escaped as in a URL. It is added to that of the URL."},
		{Name: "authKey", Documentation: "Name of the header field that carries `authCode`."},
		{Name: "authCode", Sensitive: true, Documentation: "Value of the header field that `authKey` names."},
		{Name: "authorization", Sensitive: true, Documentation: "Access token for the endpoint (DPS HTTP profile)."},
		{Name: "authType", Default: "bearer", Documentation: "Scheme of `authorization`."},
		{Name: "header:", Prefix: true, Sensitive: true, Documentation: "A header field to send. `header:Content-Type` is ignored."},
	}
}

// Package publicapi is what a counterparty reaches of a data flow. Endpoint issues addresses, each with a token, and needs nothing but
// tokens. Handler honours them, renews their tokens, and asks the engine to let each request into its flow.
//
// # Paths
//
// Paths begin where PublicURL ends. Ids and the elements of part names are escaped, so that "a/b" as an id is a%2Fb. A flow of
// another participant context than the default one has /contexts/{context} before its path.
//
//	GET, HEAD  /flows/{id}                 the part, if there is one; otherwise the list of parts
//	GET, HEAD  /flows/{id}/parts/{name}    one part
//	PUT, POST  /ingest/{id}/{name}         takes one part
//	POST       /ingest/{id}                takes one part named by Content-Disposition, or several as multipart
//	HEAD, PATCH, DELETE  /ingest/{id}/{name}?upload={upload}  asks for, goes on with, or gives up an upload that was begun
//	OPTIONS    /ingest/{id}[/{name}]       says whether uploads can go on after a cut (Upload-Limit)
//	POST       /manifests/{id}             closes an ingest, if what has come is what was sent
//	POST       /responses/{id}             takes messages on the response channel of a flow, as /ingest/{id} takes parts
//	PUT, POST  /responses/{id}/{name}      takes one
//	GET, HEAD  /.well-known/jwks.json      the keys that tokens are signed with
//	POST       /token                      renews the tokens of any flow
//
// Everything but the last two needs the token of the flow's address: "Authorization: Bearer <token>", or the token alone.
//
// Options.Access is asked about each of these requests, but for the last two, when its token is good: 403 access-denied says why it may
// not go on.
//
// # Pull
//
// A part that carries bytes is answered as it is, with its size, type, validator and modification time, and with ranges (one at a
// time) if its size is known. A part that carries records is application/x-ndjson, one JSON object a line: "value" and "key" in
// base64, "time" in RFC 3339, "headers" by name in base64. Several parts are application/vnd.towpath.parts+json
//
//	{"parts":[{"name":"a/b.bin","size":3,"mediaType":"text/plain","modified":"2026-01-02T03:04:05Z","etag":"\"1\"",
//	           "href":"./f/parts/a/b.bin","digests":{"crc32c":"364b3fb7"}}]}
//
// where href is relative to the list's URL and what is not known is left out, or multipart/mixed if Accept names that.
//
// An answer whose length is announced never has all its bytes before the source has vouched for them, and an answer of unknown length
// never ends properly before that: a source that fails, a flow that is suspended, or content that is not what its digest says, cut
// the connection. Whoever reads to the proper end has the whole part.
//
// # Ingest
//
// An upload is answered when it is durable: 201, or 200 if a part of that name had come before. One that breaks off, is larger than
// announced or has another digest than its Content-Digest or Repr-Digest (RFC 9530; sha-256, crc32c) leaves nothing behind. The
// same part may be sent again. A manifest is application/vnd.towpath.manifest+json
//
//	{"parts":[{"index":0,"name":"a/b.bin","size":3,"digests":{"crc32c":"364b3fb7"}}],"bytes":3}
//
// # Resumption
//
// An upload can come in several requests (draft-ietf-httpbis-resumable-upload, interop version 8), if the flow's sink can go on inside a
// part. A PUT or POST with Upload-Complete and the version gets 104 with the upload's URL, which needs the flow's token as everything
// does; with Upload-Complete: ?1 that is for parts of a MiB and more only. Upload-Offset is what the sink has made durable: it survives
// the loss of the host and of the sink. It is moved on once in a while, and when a request breaks off. A request for an upload ends
// the one that still runs for it, because its client has given that up. A part has one upload at a time: sending it anew, in either way, ends
// the one before, and so do the flow's end, a wrong digest of the whole, and a week (or what is configured) without a byte. Nothing is
// visible before the request that completes the upload is answered, and that answer can be had again.
//
// Content with a Content-Digest of its own counts only as a whole. Want-Repr-Digest has the digest of the part returned with the last
// answer; with a pull, before a small part, and behind a large one with HTTP/2 or "TE: trailers".
//
// # Response channels
//
// The provider of a flow may take messages from its consumer, whatever the direction of the data. They have a token of their own, which is
// good for nothing else, and are parts in all but this: they go to the response sink of the dataset, have names and indexes of their own, do
// not come in several requests, and no manifest closes them. The channel is open while the flow is STARTED. Every refusal has the member
// "retry", which says whether to send the same again later: true with a Retry-After, before the flow is STARTED (409) and while it is
// SUSPENDED (503, after which there is a new token), false when it has ended (410). A token of the channel that has died with the flow is
// told its state all the same; any other that is not good is told nothing.
//
// # Renewal
//
// An address with refreshToken, expiresIn (seconds) and refreshEndpoint can be renewed as the Token Renewal profile has it: the refresh
// token grant of OAuth 2.0 (RFC 6749, section 6), for clients that prove who they are with a key of their DID.
//
//	POST /token
//	Content-Type: application/x-www-form-urlencoded
//	Authorization: Bearer <JWT: iss and sub the client's DID, aud the DID of the flow's participant, token the access token>
//
//	grant_type=refresh_token&refresh_token=<refresh token>
//
// The parameters may also be in the query. The JWT is signed with an asymmetric key that kid names in the DID's document (did:web,
// did:jwk, did:key), whole or from the '#' on. It need not have exp and iat; if it has them it must not have expired, nor be older than
// five minutes. What is looked at, in this order: the form of the request, whether one of the tokens was issued to the DID at all, the
// signature, what else the JWT says, whether the flow takes requests now, aud, and the refresh token with the access token, which is to be
// the current one or the one before.
//
// The answer has new tokens, of both kinds. One that is lost can be had again, to the byte, with the old refresh token, until the new
// access token is used for the first time or a grace is over; requests at once get the same. A refresh token that comes later than that
// has been in two hands, and ends all tokens of the flow until it is resumed. The access token from before the renewal is good until it
// expires by itself, and those before that end with the renewal. A flow that is suspended, completed or terminated ends them all.
//
// Errors are those of RFC 6749, section 5.2. 401 invalid_client: the client is not who it says. All who may have no business here get
// the same one, whatever tokens they have found, and for none of them is a DID resolved that does not come with a token of its own.
// 400 invalid_grant: the tokens are not good any more, or the flow does not take requests; asking again is of no use. 429 and 503
// temporarily_unavailable: the client asks too often, or its DID cannot be resolved; asking again later is.
//
// # Errors
//
// Other errors are application/problem+json (RFC 9457). No error tells a caller without a token whether a flow exists, and none carries
// what a plugin said: that is for the log.
package publicapi

package main

import (
	"cmp"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/towpath-dataplane/towpath/sdk"
)

const (
	lowerLetters  = "abcdefghijklmnopqrstuvwxyz0123456789"
	bucketLetters = lowerLetters + "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-_"
	maxKey        = 1024 // bytes
)

// place is the bucket that an address names, and how to get there.
type place struct {
	region      string
	bucket      string
	endpoint    *url.URL // nil: Amazon's own
	pathStyle   bool
	credentials aws.CredentialsProvider
	identity    string   // stands for the credentials of the address, "" for the operator's
	secrets     []string // values that a message must not repeat
	checksums   bool     // send them
}

// newPlace reads what the addresses of sources and sinks have in common.
func (env *environment) newPlace(a sdk.DataAddress) (*place, error) {
	r := addressReader{address: a}
	p := &place{
		region:    r.region(),
		bucket:    r.bucket(),
		endpoint:  r.endpoint(env),
		checksums: cmp.Or(a.Get("checksums"), env.Checksums) != checksumsRequired,
	}
	p.pathStyle = p.endpoint != nil
	if v := a.Get("forcePathStyle"); v != "" {
		p.pathStyle, _ = strconv.ParseBool(v)
	}
	r.credentials(p)
	if err := sdk.InvalidFields(r.errs); err != nil {
		return nil, err
	}
	if p.credentials == nil {
		if env.own == nil || !env.lent.allow(p.endpoint, p.bucket) {
			return nil, sdk.Errorf(sdk.Denied, "the address has no credentials, and the operator's may not be used for bucket %q %s",
				p.bucket, p.where())
		}
		p.credentials = env.own
	}
	return p, nil
}

// where names the store.
func (p *place) where() string {
	if p.endpoint == nil {
		return "at Amazon"
	}
	return "at " + p.endpoint.Host
}

// location is an object for people.
func (p *place) location(key string) string { return "s3://" + p.bucket + "/" + key }

// addressReader collects what is wrong with an address.
type addressReader struct {
	address sdk.DataAddress
	errs    []sdk.FieldError
}

func (r *addressReader) fail(field, message string) {
	r.errs = append(r.errs, sdk.FieldError{Field: field, Message: message})
}

// region becomes part of a host name.
func (r *addressReader) region() string {
	region := cmp.Or(r.address.Get("region"), "us-east-1")
	if !isRegion(region) {
		r.fail("region", "is not the name of a region")
	}
	return region
}

// bucket becomes part of a host name or of a path.
func (r *addressReader) bucket() string {
	bucket := r.address.Get("bucketName")
	switch {
	case bucket == "":
		r.fail("bucketName", "is required")
	case !isBucket(bucket):
		r.fail("bucketName", "is not the name of a bucket")
	}
	return bucket
}

func isRegion(s string) bool {
	return len(s) <= 32 && strings.Trim(s, lowerLetters+"-") == "" && strings.Trim(s, "-") == s
}

func isBucket(s string) bool {
	return len(s) >= 3 && len(s) <= 255 && strings.Trim(s, bucketLetters) == "" && !strings.Contains(s, "..") && strings.Trim(s, ".-") == s
}

func (r *addressReader) endpoint(env *environment) *url.URL {
	field, value := "endpointOverride", r.address.Get("endpointOverride")
	if value == "" {
		field, value = "endpoint", r.address.Endpoint
	}
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		r.fail(field, "is not an absolute http or https URL without a query")
		return nil
	}
	if err := env.policy.CheckURL(u); err != nil {
		r.fail(field, err.Error())
		return nil
	}
	return u
}

func (r *addressReader) credentials(p *place) {
	id, secret, token := r.address.Get("accessKeyId"), r.address.Get("secretAccessKey"), r.address.Get("sessionToken")
	switch {
	case id == "" && secret == "" && token == "":
	case id == "":
		r.fail("accessKeyId", "is required with secretAccessKey and sessionToken")
	case secret == "":
		r.fail("secretAccessKey", "is required with accessKeyId")
	default:
		p.credentials = credentials.NewStaticCredentialsProvider(id, secret, token)
		p.identity = strings.Join([]string{id, secret, token}, "\x00")
		for _, s := range []string{token, secret, id} {
			if len(s) >= 4 {
				p.secrets = append(p.secrets, s)
			}
		}
	}
}

// hide removes the secrets of the address from a message.
func (p *place) hide(message string) string {
	for _, s := range p.secrets {
		message = strings.ReplaceAll(message, s, "...")
	}
	return message
}

// names are the properties that say which keys an address means. folder ends with '/' if it is not "".
type names struct{ folder, prefix, object string }

func (r *addressReader) names() names {
	a := r.address
	n := names{folder: a.Get("folderName"), prefix: cmp.Or(a.Get("objectPrefix"), a.Get("keyPrefix")), object: a.Get("objectName")}
	if n == (names{}) {
		n.object = a.Get("keyName")
	}
	for field, value := range map[string]string{"folderName": n.folder, "objectPrefix": n.prefix, "objectName": n.object} {
		if len(value) > maxKey || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			r.fail(field, "is not a key: more than 1024 bytes, control characters, or not UTF-8")
		}
		for _, element := range strings.Split(value, "/") {
			if element == "." || element == ".." {
				r.fail(field, `must not contain "." or ".." between slashes`)
				break
			}
		}
	}
	if n.folder != "" {
		n.folder = strings.TrimPrefix(strings.TrimSuffix(n.folder, "/")+"/", "/")
	}
	return n
}

// readRange is the objects that the address of a source means: one, or those with a prefix.
type readRange struct {
	*place
	key    string // of the one object; "" for all with the prefix
	prefix string
}

func (env *environment) newReadRange(a sdk.DataAddress) (*readRange, error) {
	r := addressReader{address: a}
	n := r.names()
	switch {
	case n.object != "" && n.prefix != "":
		r.fail("objectPrefix", "cannot be given with objectName")
	case n.object == "" && n.prefix == "" && n.folder == "" && a.Get("folderName") == "":
		r.fail("objectName", "is required, or objectPrefix, or folderName")
	case strings.HasSuffix(n.object, "/"):
		r.fail("objectName", "is a folder")
	}
	if err := sdk.InvalidFields(r.errs); err != nil {
		return nil, err
	}
	p, err := env.newPlace(a)
	if err != nil {
		return nil, err
	}
	if n.object != "" {
		return &readRange{place: p, key: n.folder + n.object}, nil
	}
	return &readRange{place: p, prefix: n.folder + n.prefix}, nil
}

// base is what a key begins with and the name of its part does not: everything up to the last '/' of what the address gives.
func (r *readRange) base() string {
	given := cmp.Or(r.key, r.prefix)
	return given[:strings.LastIndexByte(given, '/')+1]
}

// writeFolder is where the address of a sink wants its objects.
type writeFolder struct {
	*place
	folder string // what all keys begin with
	object string // name of the only one; "" if parts keep their names
	work   string // folder of what is not whole
}

func (env *environment) newWriteFolder(a sdk.DataAddress) (*writeFolder, error) {
	r := addressReader{address: a}
	n := r.names()
	w := &writeFolder{folder: n.folder + n.prefix, object: n.object}
	if n.object != "" && sdk.CheckName(n.object) != nil {
		r.fail("objectName", "is not a plain relative path")
	}
	if isWork(w.folder + n.object) {
		r.fail("folderName", "leads into a folder "+workFolder+", which is the plugin's own")
	}
	if err := sdk.InvalidFields(r.errs); err != nil {
		return nil, err
	}
	var err error
	if w.place, err = env.newPlace(a); err != nil {
		return nil, err
	}
	whole := w.folder + w.object
	w.work = path.Join(whole[:strings.LastIndexByte(whole, '/')+1], workFolder) + "/"
	return w, nil
}

// key is the key of a part.
func (w *writeFolder) key(p *sdk.IncomingPart) (string, error) {
	name := p.Name
	if w.object != "" && p.TotalParts <= 1 {
		if p.Index > 0 {
			return "", sdk.Errorf(sdk.Invalid, "objectName is for one part, and there are more: use folderName")
		}
		name = w.object
	}
	key := w.folder + name
	switch {
	case len(key) > maxKey:
		return "", sdk.Errorf(sdk.Invalid, "its key has more than %d bytes", maxKey)
	case isWork(key):
		return "", sdk.Errorf(sdk.Invalid, "%q leads into a folder %s, which is the plugin's own", key, workFolder)
	}
	return key, nil
}

// isWork reports whether a key is below a folder for what is not whole.
func isWork(key string) bool {
	return strings.HasPrefix(key, workFolder+"/") || strings.Contains(key, "/"+workFolder+"/")
}

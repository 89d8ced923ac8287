package main

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

const theSecret = "s3cr3t-value-that-nobody-may-see"

func addressOf(properties ...string) sdk.DataAddress {
	a := sdk.DataAddress{Type: addressType, Properties: map[string]string{
		"bucketName": "bucket", "accessKeyId": "AKIDEXAMPLE", "secretAccessKey": theSecret,
	}}
	for i := 0; i < len(properties); i += 2 {
		a.Properties[properties[i]] = properties[i+1]
	}
	return a
}

func TestAddressesOfSources(t *testing.T) {
	env := newTestPlugin(t, nil).Sources[0].Source.(*source).env
	for _, c := range []struct {
		properties        []string
		key, prefix, base string
		wrong             string // field
	}{
		{properties: []string{"objectName", "a/b.csv"}, key: "a/b.csv", base: "a/"},
		{properties: []string{"objectName", "b.csv", "folderName", "/a"}, key: "a/b.csv", base: "a/"},
		{properties: []string{"objectName", "b.csv", "keyName", "alias"}, key: "b.csv"},
		{properties: []string{"keyName", "b.csv"}, key: "b.csv"},
		{properties: []string{"objectPrefix", "a/b", "keyName", "alias"}, prefix: "a/b", base: "a/"},
		{properties: []string{"keyPrefix", "b"}, prefix: "b"},
		{properties: []string{"folderName", "a/b"}, prefix: "a/b/", base: "a/b/"},
		{properties: []string{"folderName", "/"}},
		{properties: []string{"https://w3id.org/edc/v0.0.1/ns/objectName", "x"}, key: "x"},
		{wrong: "objectName"},
		{properties: []string{"objectName", "a/"}, wrong: "objectName"},
		{properties: []string{"objectName", "a", "objectPrefix", "b"}, wrong: "objectPrefix"},
		{properties: []string{"objectName", "a/../b"}, wrong: "objectName"},
		{properties: []string{"objectName", "a\n"}, wrong: "objectName"},
		{properties: []string{"objectName", strings.Repeat("x", 1025)}, wrong: "objectName"},
		{properties: []string{"objectName", "x", "bucketName", "a/b"}, wrong: "bucketName"},
		{properties: []string{"objectName", "x", "bucketName", "a..b"}, wrong: "bucketName"},
		{properties: []string{"objectName", "x", "bucketName", "b?x=y"}, wrong: "bucketName"},
		{properties: []string{"objectName", "x", "region", "evil.example/"}, wrong: "region"},
		{properties: []string{"objectName", "x", "endpointOverride", "ftp://store.example"}, wrong: "endpointOverride"},
		{properties: []string{"objectName", "x", "endpointOverride", "http://store.example"}, wrong: "endpointOverride"},
		{properties: []string{"objectName", "x", "endpointOverride", "https://169.254.169.254"}, wrong: "endpointOverride"},
		{properties: []string{"objectName", "x", "endpointOverride", "https://a:b@store.example"}, wrong: "endpointOverride"},
		{properties: []string{"objectName", "x", "endpointOverride", "https://store.example/?x=" + theSecret}, wrong: "endpointOverride"},
		{properties: []string{"objectName", "x", "accessKeyId", ""}, wrong: "accessKeyId"},
		{properties: []string{"objectName", "x", "secretAccessKey", ""}, wrong: "secretAccessKey"},
	} {
		r, err := env.newReadRange(addressOf(c.properties...))
		if c.wrong != "" {
			var e *sdk.Error
			if !errors.As(err, &e) || e.Code != sdk.Invalid || len(e.Fields) != 1 || e.Fields[0].Field != c.wrong {
				t.Errorf("%q: %v, not that %s is wrong", c.properties, err, c.wrong)
			} else if strings.Contains(err.Error(), theSecret) {
				t.Errorf("%q: the error has a secret", c.properties)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.properties, err)
			continue
		}
		if diff := cmp.Diff([]string{c.key, c.prefix, c.base}, []string{r.key, r.prefix, r.base()}); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.properties, diff)
		}
	}
}

func TestAddressesOfSinks(t *testing.T) {
	env := newTestPlugin(t, nil).Sources[0].Source.(*source).env
	for _, c := range []struct {
		properties []string
		total      int
		key, work  string
		wrong      bool
	}{
		{key: "n/x.csv", work: ".towpath/"},
		{properties: []string{"folderName", "a/b/"}, key: "a/b/n/x.csv", work: "a/b/.towpath/"},
		{properties: []string{"folderName", "a", "objectPrefix", "b/p-"}, key: "a/b/p-n/x.csv", work: "a/b/.towpath/"},
		{properties: []string{"folderName", "a", "objectName", "b/y.csv"}, total: 1, key: "a/b/y.csv", work: "a/b/.towpath/"},
		{properties: []string{"objectName", "y.csv"}, total: 2, key: "n/x.csv", work: ".towpath/"},
		{properties: []string{"folderName", "a", "keyName", "alias"}, total: 1, key: "a/n/x.csv", work: "a/.towpath/"},
		{properties: []string{"folderName", "a/.towpath/b"}, wrong: true},
		{properties: []string{"objectName", "../x"}, wrong: true},
	} {
		w, err := env.newWriteFolder(addressOf(c.properties...))
		if (err != nil) != c.wrong {
			t.Errorf("%q: %v", c.properties, err)
		}
		if err != nil {
			continue
		}
		key, err := w.key(&sdk.IncomingPart{PartInfo: sdk.PartInfo{Name: "n/x.csv", TotalParts: c.total}})
		if err != nil || key != c.key || w.work != c.work {
			t.Errorf("%q: key %q, work folder %q, %v", c.properties, key, w.work, err)
		}
	}
	w, err := env.newWriteFolder(addressOf())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".towpath/x", "a/.towpath/x", strings.Repeat("x", 1025)} {
		if _, err := w.key(&sdk.IncomingPart{PartInfo: sdk.PartInfo{Name: name}}); err == nil {
			t.Errorf("%.40q is taken for a part's name", name)
		}
	}
}

// The operator's credentials are for the buckets that the operator names, whoever asks.
func TestGrants(t *testing.T) {
	g, err := parseGrants([]string{"own", "team-*", "https://Store.example:443/exports", "http://127.0.0.1:9000/*"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		endpoint, bucket string
		want             bool
	}{
		{"", "own", true}, {"", "team-a", true}, {"", "exports", false}, {"", "owner", false}, {"", "OWN", false},
		{"https://store.example", "exports", true}, {"https://store.example", "own", false}, {"http://store.example", "exports", false},
		{"https://store.example:9000", "exports", false}, {"http://127.0.0.1:9000", "anything", true}, {"https://evil.example", "team-a", false},
	} {
		var endpoint *url.URL
		if c.endpoint != "" {
			endpoint, _ = url.Parse(c.endpoint)
		}
		if got := g.allow(endpoint, c.bucket); got != c.want {
			t.Errorf("bucket %q at %q: %t", c.bucket, c.endpoint, got)
		}
	}
	for _, wrong := range []string{"", "a/b", "ftp://x/y", "https:///b", "https://store.example", "https://store.example/", "[a-z]",
		"https://u:p@x/y"} {
		if _, err := parseGrants([]string{wrong}); err == nil {
			t.Errorf("%q is taken for a grant", wrong)
		}
	}
}

// An address without credentials reads with the operator's where that is allowed, and nowhere else.
func TestOperatorsCredentials(t *testing.T) {
	b, other := newBucket(t), newBucket(t)
	b.put("x", []byte("x"))
	config := map[string]any{
		"default_credentials": []string{server.url + "/" + b.name}, "access_key_id": testKey, "secret_access_key": testSecret,
	}
	source := sdk.NewDataSource(newTestPlugin(t, config).Sources[0])
	bare := func(b *bucket) sdk.DataAddress {
		a := b.address("objectName", "x")
		delete(a.Properties, "accessKeyId")
		delete(a.Properties, "secretAccessKey")
		return a
	}
	if content, _, err := readAll(t.Context(), source, sdk.ReadOpen{Address: bare(b)}); err != nil || string(content["x"]) != "x" {
		t.Errorf("%q, %v", content, err)
	}
	for name, a := range map[string]sdk.DataAddress{"another bucket": bare(other)} {
		if e := sdk.AsError(source.Validate(t.Context(), a)); e == nil || e.Code != sdk.Denied {
			t.Errorf("%s: %v", name, e)
		}
	}
	none := sdk.NewDataSource(newTestPlugin(t, map[string]any{"access_key_id": testKey, "secret_access_key": testSecret}).Sources[0])
	if e := sdk.AsError(none.Validate(t.Context(), bare(b))); e == nil || e.Code != sdk.Denied {
		t.Errorf("without grants: %v", e)
	}
}

// What a store says does not bring a secret into an error.
func TestErrorsHaveNoSecret(t *testing.T) {
	endpoint := newProxy(t, func(w http.ResponseWriter, req *http.Request) bool {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		w.Write([]byte("<Error><Code>AccessDenied</Code><Message>no:\n" + theSecret + " https://x.example/?sig=" + theSecret + "</Message></Error>"))
		return true
	})
	a := addressOf("objectPrefix", "x", "endpointOverride", endpoint)
	_, _, err := readAll(t.Context(), sdk.NewDataSource(newTestPlugin(t, nil).Sources[0]), sdk.ReadOpen{Address: a})
	e := sdk.AsError(err)
	if e == nil || e.Code != sdk.Denied || !strings.Contains(e.Message, "AccessDenied") {
		t.Fatalf("%v", err)
	}
	if strings.Contains(e.Message, theSecret) || strings.Contains(e.Message, "\n") {
		t.Errorf("the error has a secret or a line break: %q", e.Message)
	}
}

// Every property that the plugin reads is in its schema, and what is secret is marked.
func TestSchemas(t *testing.T) {
	for _, s := range []sdk.Schema{sourceSchema(), sinkSchema(), configSchema()} {
		for _, f := range s.Fields {
			secret := strings.Contains(strings.ToLower(f.Name), "secret") || strings.Contains(strings.ToLower(f.Name), "token") || f.Name == "accessKeyId"
			if f.Sensitive != secret || f.Documentation == "" {
				t.Errorf("%s: sensitive %t, documentation %q", f.Name, f.Sensitive, f.Documentation)
			}
			if f.Default != "" && f.CheckValue(f.Default) != nil {
				t.Errorf("%s: the default is wrong", f.Name)
			}
		}
	}
}

func TestConfigure(t *testing.T) {
	for config, field := range map[string]string{
		`{"part_size":"1MiB"}`:                "part_size",
		`{"range_size":"1"}`:                  "range_size",
		`{"parallel":0}`:                      "parallel",
		`{"timeout":"0s"}`:                    "timeout",
		`{"idle_timeout":"-1s"}`:              "idle_timeout",
		`{"checksums":"never"}`:               "checksums",
		`{"access_key_id":"x"}`:               "access_key_id",
		`{"session_token":"x"}`:               "session_token",
		`{"allow":["http://x"]}`:              "allow",
		`{"default_credentials":["a/b"]}`:     "default_credentials",
		`{"ca_file":"/nonexistent/file.pem"}`: "ca_file",
	} {
		var e *sdk.Error
		err := newPlugin().Configure(t.Context(), sdk.Config{JSON: []byte(config)})
		if !errors.As(err, &e) || len(e.Fields) != 1 || e.Fields[0].Field != field {
			t.Errorf("%s: %v", config, err)
		}
	}
	if err := newPlugin().Configure(t.Context(), sdk.Config{}); err != nil {
		t.Error(err)
	}
}

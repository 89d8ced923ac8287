package main

import (
	"bytes"
	"maps"
	"mime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towpath-dataplane/towpath/sdk"
)

func decodeWords(s string) (string, error) { return new(mime.WordDecoder).DecodeHeader(s) }

func TestAttachmentType(t *testing.T) {
	for given, want := range map[string]string{
		"":                            "application/octet-stream",
		"text/csv":                    "text/csv",
		"text/csv; charset=utf-8":     "text/csv;\r\n charset=utf-8",
		"multipart/mixed; boundary=x": "application/octet-stream",
		"message/rfc822":              "application/octet-stream",
		"text/plain\r\nBcc: x@y":      "application/octet-stream",
		"no type at all":              "application/octet-stream",
		strings.Repeat("x", 600):      "application/octet-stream",
	} {
		if got := attachmentType(given); got != want {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"a.csv", "a b.csv", "Daten ü.csv", "日本/語 🙂", `quo"te`, "100%.txt", strings.Repeat("n", 1024), strings.Repeat("ü", 512), "*'%"} {
		typ, parameters, err := mime.ParseMediaType("attachment" + parameter("filename", name))
		if err != nil || typ != "attachment" || parameters["filename"] != name {
			t.Errorf("%.60q is read as %.60q, %v", name, parameters["filename"], err)
		}
	}
}

func TestConfigurations(t *testing.T) {
	good := map[string]any{"server": "mail.example", "sender": "data@provider.example"}
	for name, c := range map[string]struct {
		set  map[string]any
		says string
	}{
		"good":                      {nil, ""},
		"no server":                 {map[string]any{"server": ""}, "server: is not a host name"},
		"server is a URL":           {map[string]any{"server": "smtp://mail.example"}, "server: is not a host name"},
		"port":                      {map[string]any{"port": 70000}, "port: is not a port"},
		"user without password":     {map[string]any{"username": "u"}, "needs password"},
		"password without TLS":      {map[string]any{"username": "u", "password": "secret-1", "tls": "off"}, "tls: has to be on where there is a password"},
		"password to this machine":  {map[string]any{"server": "localhost", "username": "u", "password": "p", "tls": "off"}, ""},
		"sender":                    {map[string]any{"sender": "nobody"}, "sender: is not a mail address"},
		"sender that is two lines":  {map[string]any{"sender": "a@b.example\r\nBcc: c@d.example"}, "sender: is not a mail address"},
		"certificates":              {map[string]any{"ca": "none"}, "ca: has no certificate in PEM"},
		"time":                      {map[string]any{"idle_timeout": "0s"}, "idle_timeout: is not more than 0"},
		"no recipients":             {map[string]any{"max_recipients": 0}, "max_recipients"},
		"no mail":                   {map[string]any{"max_message": "0"}, "max_message"},
		"a name that is two words":  {map[string]any{"hello": "a b"}, "hello: is not the name of a machine"},
		"a size that is not a size": {map[string]any{"max_message": "much"}, "configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			config := map[string]any{}
			for _, m := range []map[string]any{good, c.set} {
				for k, v := range m {
					config[k] = v
				}
			}
			err := configurePlugin(newPlugin(), config)
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, sdk.Invalid, false, c.says)
			if strings.Contains(err.Error(), "secret-1") {
				t.Errorf("a secret is in %q", err)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	s := newSink(t, map[string]any{"server": "mail.example", "sender": "data@provider.example", "max_recipients": 2,
		"allow_recipients": []string{"*@consumer.example", "boss@other.example"}, "allow_senders": []string{"*@provider.example"}})
	for name, c := range map[string]struct {
		properties []string
		says       string
	}{
		"one":                        {nil, ""},
		"two, by any case":           {[]string{"recipient", "Them <THEM@Consumer.Example>, boss@other.example"}, ""},
		"none":                       {[]string{"recipient", ""}, "recipient: is required"},
		"no address":                 {[]string{"recipient", "them"}, "recipient: is not a list of mail addresses"},
		"too many":                   {[]string{"recipient", "a@consumer.example,b@consumer.example,c@consumer.example"}, "more than 2"},
		"one that is not allowed":    {[]string{"recipient", "them@consumer.example, x@elsewhere.example"}, "x@elsewhere.example is not one"},
		"one that only ends so":      {[]string{"recipient", "boss@other.example.elsewhere.example"}, "is not one that this data plane may send to"},
		"one with quotes":            {[]string{"recipient", `"a b"@consumer.example`}, "is not a mail address in plain ASCII"},
		"one beyond ASCII":           {[]string{"recipient", "ü@consumer.example"}, "is not a mail address in plain ASCII"},
		"a second line":              {[]string{"recipient", "a@consumer.example\r\nBcc: b@consumer.example"}, "recipient: is not a list"},
		"sender":                     {[]string{"sender", "other@provider.example"}, ""},
		"sender is not allowed":      {[]string{"sender", "boss@other.example"}, "sender: boss@other.example is not one that this data plane may send from"},
		"subject":                    {[]string{"subject", "hello"}, ""},
		"subject with a field":       {[]string{"subject", "hello\r\nBcc: x@y.example"}, "subject: has control characters"},
		"subject that is too long":   {[]string{"subject", strings.Repeat("x", 501)}, "subject: has more than 500 bytes"},
		"text with a control":        {[]string{"text", "a\x00"}, "text: has control characters"},
		"text with lines":            {[]string{"text", "a\nb\tc"}, ""},
		"property that is not there": {[]string{"recipients", "them@consumer.example"}, "recipients: is not a property of Mail"},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.Validate(t.Context(), address(c.properties...))
			if c.says != "" {
				wantError(t, err, sdk.Invalid, false, c.says)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever peers choose, a mail has the fields it is to have and no other.
func FuzzMessage(f *testing.F) {
	f.Add("flow-1", "a.csv", "text/csv", "subject", "text", "Them <them@consumer.example>")
	f.Add("flow\r\nBcc: x@y", "ü\".csv", "text/csv; x=\"\r\n\"", "sub\r\nject", "a\r\n--=_", "=?utf-8?q?=0D=0ABcc:_x?= <a@b.example>")
	f.Fuzz(func(t *testing.T, flow, name, mediaType, subject, text, recipient string) {
		s := settings{Server: "mail.example", Sender: "data@provider.example", MaxRecipients: 3}
		d, err := s.destination(address("recipient", recipient, "subject", subject, "text", text))
		if err != nil || sdk.CheckName(name) != nil {
			return
		}
		m := newMessage(d, sdk.FlowContext{ID: flow}, sdk.PartInfo{Name: name, MediaType: mediaType}, time.Now())
		var b bytes.Buffer
		b.Write(m.head)
		e := newEncoder(&b)
		e.Write([]byte("content"))
		e.end()
		b.Write(m.tail)
		if int64(b.Len()) != m.size(7) {
			t.Errorf("%d bytes, said %d", b.Len(), m.size(7))
		}
		parsed, err := parseMail(b.Bytes())
		if err != nil {
			t.Fatalf("%v\n%s", err, b.Bytes())
		}
		fields := slices.Sorted(maps.Keys(parsed.header))
		want := []string{"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}
		if diff := cmp.Diff(want, fields); diff != "" {
			t.Errorf("fields:\n%s", diff)
		}
		if len(parsed.parts) != 2 || parsed.parts[1].name != name || string(parsed.parts[1].content) != "content" {
			t.Errorf("parts: %q\n%s", parsed.parts, b.Bytes())
		}
	})
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/towpath-dataplane/towpath/sdk"
	"github.com/towpath-dataplane/towpath/sdk/sdktest"
)

// unsized is a part whose size is not known before its end.
func unsized(name string, content []byte) sdk.Part {
	return sdk.Part{
		PartInfo: sdk.PartInfo{Name: name, Size: sdk.SizeUnknown},
		Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content[offset:])), nil
		},
	}
}

func TestMailOfAPart(t *testing.T) {
	p := newPost(t, &post{}, nil)
	a := address("recipient", "them@consumer.example, Jürgen Müller <two@consumer.example>", "subject", "Über \"alles\" 🙂", "text", "Grüße\r\nund = Zeichen")
	content := sdktest.Pattern(1, 100_000)
	part := sdk.BytesPart("folder/Daten ü.csv", "text/csv; charset=utf-8", content)
	written, err := send(t, newSink(t, p.config(nil)), a, part)
	if err != nil {
		t.Fatal(err)
	}
	mails := p.all()
	if len(mails) != 1 || len(mails[0].parts) != 2 {
		t.Fatalf("%d mails: %v", len(mails), mails)
	}
	m := mails[0]
	if m.from != "data@provider.example" || fmt.Sprint(m.to) != "[them@consumer.example two@consumer.example]" {
		t.Errorf("the envelope is from %s to %v", m.from, m.to)
	}
	from, _ := m.header.AddressList("From")
	to, _ := m.header.AddressList("To")
	if len(from) != 1 || from[0].Name != "Data Space" || len(to) != 2 || to[1].Name != "Jürgen Müller" {
		t.Errorf("From %v, To %v", from, to)
	}
	if subject, err := decodeWords(m.header.Get("Subject")); err != nil || subject != a.Get("subject") {
		t.Errorf("subject %q, %v", subject, err)
	}
	if _, err := m.header.Date(); err != nil {
		t.Error(err)
	}
	if got := string(m.parts[0].content); got != a.Get("text") {
		t.Errorf("the text is %q", got)
	}
	attached := m.parts[1]
	if attached.name != "folder/Daten ü.csv" || attached.typ != "text/csv; charset=utf-8" || !bytes.Equal(attached.content, content) {
		t.Errorf("attached is %q, %s, with %d bytes", attached.name, attached.typ, len(attached.content))
	}
	if len(written) != 1 || !strings.Contains(written[0].Location, m.header.Get("Message-ID")) {
		t.Errorf("receipt %+v for %s", written, m.header.Get("Message-ID"))
	}
}

func TestDefaultsOfAMail(t *testing.T) {
	p := newPost(t, &post{}, nil)
	if _, err := send(t, newSink(t, p.config(nil)), address(), sdk.BytesPart("a", "", nil)); err != nil {
		t.Fatal(err)
	}
	m := p.all()[0]
	if got := m.header.Get("Subject"); got != "File transfer flow-1" {
		t.Errorf("subject %q", got)
	}
	if got := string(m.parts[0].content); got != `Attached is "a" of the data flow "flow-1".` {
		t.Errorf("text %q", got)
	}
	if m.parts[1].typ != "application/octet-stream" || len(m.parts[1].content) != 0 {
		t.Errorf("attached is %+v", m.parts[1])
	}
}

// What is sent again is the same mail for who looks at its Message-ID; other content, and another part, is another.
func TestRepeatIsRecognisable(t *testing.T) {
	part := func(name, validator string) sdk.PartInfo { return sdk.PartInfo{Name: name, Validator: validator} }
	other := testFlow
	other.ID = "flow-2"
	first := messageKey(testFlow, part("a", "v1"))
	if first != messageKey(testFlow, part("a", "v1")) {
		t.Error("the same part has two keys")
	}
	for what, key := range map[string]string{"another part": messageKey(testFlow, part("b", "v1")),
		"another flow": messageKey(other, part("a", "v1")), "other content": messageKey(testFlow, part("a", "v2"))} {
		if key == first {
			t.Errorf("%s has the same key", what)
		}
	}
}

func TestLimits(t *testing.T) {
	content := sdktest.Pattern(2, 300_000)
	for name, c := range map[string]struct {
		config map[string]any
		change func(*smtp.Server)
		part   sdk.Part
		says   string
	}{
		"operator's":               {map[string]any{"max_message": "256KiB"}, nil, sdk.BytesPart("a", "", content), "this data plane allows 262144"},
		"operator's, size unknown": {map[string]any{"max_message": "256KiB"}, nil, unsized("a", content), "this data plane allows 262144"},
		"server's":                 {nil, func(s *smtp.Server) { s.MaxMessageBytes = 400_000 }, sdk.BytesPart("a", "", content), "the server allows 400000"},
		"server's, size unknown":   {nil, func(s *smtp.Server) { s.MaxMessageBytes = 400_000 }, unsized("a", content), "the server allows 400000"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPost(t, &post{}, c.change)
			s := newSink(t, p.config(c.config))
			_, err := send(t, s, address(), c.part)
			wantError(t, err, sdk.Exhausted, false, c.says, `part "a"`)
			if mails := p.all(); len(mails) != 0 {
				t.Errorf("%d mails were delivered", len(mails))
			}
			if _, err := send(t, s, address(), sdk.BytesPart("small", "", content[:1000])); err != nil || len(p.all()) != 1 {
				t.Errorf("a small part: %v", err)
			}
		})
	}
}

// A mail is as large as it was announced, and as large as a limit lets it be.
func TestSizeIsExact(t *testing.T) {
	var announced atomic.Int64
	p := newPost(t, &post{onMail: func(size int64) error { announced.Store(size); return nil }}, nil)
	for _, n := range []int{0, 1, 2, 3, 56, 57, 58, 114, 3000, flushSize / lineSize * lineBytes, 200_001} {
		part := sdk.BytesPart("a", "", sdktest.Pattern(n, n))
		if _, err := send(t, newSink(t, p.config(nil)), address(), part); err != nil {
			t.Fatal(err)
		}
		mails := p.all()
		if got := int64(mails[len(mails)-1].size); got != announced.Load() {
			t.Errorf("a mail with %d bytes has %d, announced %d", n, got, announced.Load())
		}
		tight := p.config(map[string]any{"max_message": fmt.Sprint(announced.Load())})
		if _, err := send(t, newSink(t, tight), address(), part); err != nil {
			t.Errorf("a mail of exactly the limit: %v", err)
		}
	}
}

func TestTLS(t *testing.T) {
	withTLS := func(s *smtp.Server) { s.TLSConfig = certificateWanted }
	implicit := func(s *smtp.Server) { s.TLSConfig, s.LMTP = certificateWanted, true }
	for name, c := range map[string]struct {
		server    func(*smtp.Server)
		mode      string
		untrusted bool
		code      sdk.Code // "": it works
	}{
		"implicit":                      {implicit, tlsImplicit, false, ""},
		"implicit, untrusted":           {implicit, tlsImplicit, true, sdk.Denied},
		"implicit, where there is none": {nil, tlsImplicit, false, sdk.Denied},
		"starttls":                      {withTLS, tlsStart, false, ""},
		"starttls, untrusted":           {withTLS, tlsStart, true, sdk.Denied},
		"starttls, not offered":         {nil, tlsStart, false, sdk.Unsupported},
		"optional":                      {withTLS, tlsOptional, false, ""},
		"optional, not offered":         {nil, tlsOptional, false, ""},
		"optional, untrusted":           {withTLS, tlsOptional, true, sdk.Denied},
		"off":                           {withTLS, tlsOff, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, &post{}, c.server)
			config := p.config(map[string]any{"tls": c.mode})
			if !c.untrusted {
				config["ca"] = p.ca
			}
			_, err := send(t, newSink(t, config), address(), sdk.BytesPart("a", "", []byte("x")))
			if c.code == "" {
				if err != nil || len(p.all()) != 1 {
					t.Fatalf("%d mails, %v", len(p.all()), err)
				}
				return
			}
			wantError(t, err, c.code, false)
			if len(p.all()) != 0 {
				t.Error("a mail was delivered")
			}
		})
	}
}

func TestLogIn(t *testing.T) {
	p := newPost(t, &post{auth: true}, nil)
	login := func(password string) map[string]any { return map[string]any{"username": "user", "password": password} }
	if _, err := send(t, newSink(t, p.config(login("right"))), address(), sdk.BytesPart("a", "", nil)); err != nil {
		t.Error(err)
	}
	_, err := send(t, newSink(t, p.config(login("s3cret-wrong"))), address(), sdk.BytesPart("a", "", nil))
	wantError(t, err, sdk.Denied, false, "log in at the mail server", "535 5.7.8", "no ***, sorry")
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error has the password: %v", err)
	}
	open := newPost(t, &post{}, nil)
	_, err = send(t, newSink(t, open.config(login("right"))), address(), sdk.BytesPart("a", "", nil))
	wantError(t, err, sdk.Unsupported, false, "neither AUTH PLAIN nor AUTH LOGIN")
}

// The server's words reach the operator; 4xx is tried again, 5xx is not.
func TestRefusals(t *testing.T) {
	say := func(code int, class, detail int, words string) error {
		return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, class, detail}, Message: words}
	}
	for name, c := range map[string]struct {
		post      *post
		code      sdk.Code
		retryable bool
		says      string
	}{
		"busy":             {&post{session: func() error { return say(421, 4, 5, "too many of you") }}, sdk.Unavailable, true, "too many of you"},
		"sender later":     {&post{onMail: func(int64) error { return say(451, 3, 0, "greylisted") }}, sdk.Unavailable, true, "451 4.3.0 greylisted"},
		"sender never":     {&post{onMail: func(int64) error { return say(550, 7, 1, "not from you") }}, sdk.Denied, false, "550 5.7.1 not from you"},
		"too large":        {&post{onMail: func(int64) error { return say(552, 3, 4, "too big") }}, sdk.Exhausted, false, "552 5.3.4 too big"},
		"full for now":     {&post{onMail: func(int64) error { return say(452, 3, 1, "disk full") }}, sdk.Exhausted, true, "452 4.3.1 disk full"},
		"recipient never":  {&post{onRcpt: func(string) error { return say(550, 1, 1, "no such user") }}, sdk.Denied, false, "send to them@consumer.example"},
		"recipient later":  {&post{onRcpt: func(string) error { return say(450, 2, 1, "busy box") }}, sdk.Unavailable, true, "busy box"},
		"content never":    {&post{onEnd: func() error { return say(554, 7, 1, "spam") }}, sdk.Denied, false, "deliver: the mail server says: 554 5.7.1 spam"},
		"content later":    {&post{onEnd: func() error { return say(451, 3, 0, "scanner is down") }}, sdk.Unavailable, true, "scanner is down"},
		"a word too many":  {&post{onMail: func(int64) error { return say(550, 7, 1, strings.Repeat("very ", 200)) }}, sdk.Denied, false, "very very"},
		"content too long": {&post{onData: func(r io.Reader) error { return smtp.ErrDataTooLarge }}, sdk.Exhausted, false, "552"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, c.post, nil)
			_, err := send(t, newSink(t, p.config(nil)), address(), sdk.BytesPart("a", "", []byte("x")))
			wantError(t, err, c.code, c.retryable, c.says)
			if len(err.Error()) > 600 {
				t.Errorf("%d bytes: %v", len(err.Error()), err)
			}
		})
	}
}

func TestServerIsDown(t *testing.T) {
	p := newPost(t, &post{}, nil)
	config := p.config(nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config["port"] = l.Addr().(*net.TCPAddr).Port
	l.Close()
	_, err = send(t, newSink(t, config), address(), sdk.BytesPart("a", "", nil))
	wantError(t, err, sdk.Unavailable, true, "connect to the mail server")
}

// A mail goes to all recipients or to none.
func TestOneRecipientIsRefused(t *testing.T) {
	p := newPost(t, &post{onRcpt: func(to string) error {
		if strings.HasPrefix(to, "nobody") {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "who?"}
		}
		return nil
	}}, nil)
	a := address("recipient", "them@consumer.example, nobody@consumer.example")
	_, err := send(t, newSink(t, p.config(nil)), a, sdk.BytesPart("a", "", nil))
	wantError(t, err, sdk.Denied, false, "nobody@consumer.example", "who?")
	if len(p.all()) != 0 {
		t.Error("a mail was delivered")
	}
}

// The server hangs up after each mail: each part gets a connection of its own, and no part comes twice.
func TestConnectionEndsBetweenParts(t *testing.T) {
	p := newPost(t, &post{}, nil)
	var sessions atomic.Int64
	p.session = func() error { sessions.Add(1); return nil }
	p.onMail = func(int64) error {
		if n := sessions.Load(); int64(len(p.all())) >= n {
			return &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "one mail is enough"}
		}
		return nil
	}
	var parts []sdk.Part
	for i := range 3 {
		parts = append(parts, sdk.BytesPart(fmt.Sprint(i), "", sdktest.Pattern(i, 1000)))
	}
	if _, err := send(t, newSink(t, p.config(nil)), address(), parts...); err != nil {
		t.Fatal(err)
	}
	if len(p.all()) != 3 || sessions.Load() != 3 {
		t.Errorf("%d mails in %d sessions", len(p.all()), sessions.Load())
	}
}

// The server goes in the middle of a mail: nothing is delivered, and the part is tried again.
func TestConnectionEndsInsideAPart(t *testing.T) {
	var conn atomic.Pointer[net.Conn]
	p := newPost(t, &post{onData: func(r io.Reader) error {
		io.ReadFull(r, make([]byte, 1000))
		(*conn.Load()).Close()
		return errGone
	}}, nil)
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	go func() {
		in, err := proxy.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
		if err != nil {
			in.Close()
			return
		}
		conn.Store(&in)
		go func() { io.Copy(in, out); in.Close() }()
		io.Copy(out, in)
		out.Close()
	}()
	config := p.config(map[string]any{"port": proxy.Addr().(*net.TCPAddr).Port})
	_, err = send(t, newSink(t, config), address(), sdk.BytesPart("a", "", sdktest.Pattern(3, 4<<20)))
	wantError(t, err, sdk.Unavailable, true)
	if len(p.all()) != 0 {
		t.Error("a mail was delivered")
	}
}

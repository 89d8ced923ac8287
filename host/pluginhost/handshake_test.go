package pluginhost

import (
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
)

func TestHandshake(t *testing.T) {
	const good = "1|1|unix|/tmp/x/plugin1|grpc\n"
	for _, test := range []struct {
		name, in, line, says string
		secure               bool
	}{
		{"good", good, good, "", false},
		{"with more fields", "1|1|unix|/tmp/p|grpc|cert|true\n", "1|1|unix|/tmp/p|grpc|cert|true\n", "", false},
		{"then more", good + "1|2|unix|/tmp/y|grpc\nmore\n", good, "", false},
		{"after noise", "hello\n\n|||\na|b|c|d\n" + strings.Repeat("x", 100<<10) + "\n" + good, good, "", false},
		{"without a newline", strings.TrimSpace(good), good, "", false},
		{"carriage return", "1|1|unix|/tmp/p|grpc\r\n", "1|1|unix|/tmp/p|grpc\r\n", "", false},
		{"nothing", "", "", "", false},
		{"too few fields", "1|1|unix\n", "", "", false},
		{"another version", "1|99|unix|/tmp/p|grpc\n", "", "version 99 of the plugin protocol, this host speaks 1", false},
		{"no version", "1|x|unix|/tmp/p|grpc\n", "", "version x of the plugin protocol", false},
		{"another handshake", "2|1|unix|/tmp/p|grpc\n", "", "version 2 of the go-plugin handshake, this host speaks 1", false},
		{"too much noise", strings.Repeat("noise\n", maxNoise/5+1) + good, "", "prints something else", false},
		{"one line of noise", strings.Repeat("n", maxNoise+1) + "\n" + good, "", "prints something else", false},
		{"with a certificate", "1|1|unix|/tmp/p|grpc|cert\n", "1|1|unix|/tmp/p|grpc|cert\n", "", true},
		{"without a certificate", good, "", "does not take part in mutual TLS", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			hs := newHandshake(newOutput(slog.New(slog.DiscardHandler), new(atomic.Int64)), test.secure)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				hs.copy(strings.NewReader(test.in))
			}()
			line, err := io.ReadAll(hs.forPlugin)
			<-ended
			if string(line) != test.line || err != nil {
				t.Errorf("go-plugin reads %q, %v", line, err)
			}
			done, err := hs.result()
			if test.says != "" {
				mustContain(t, err, test.says)
			} else if err != nil || done != (test.line != "") {
				t.Errorf("result: %v, %v", done, err)
			}
		})
	}
}

func TestCheckSocket(t *testing.T) {
	for address, good := range map[string]bool{
		"unix /run/t/1/plugin7":          true,
		"unix /run/t/1/./plugin7":        true,
		"unix /run/t/1/../plugin7":       false,
		"unix /run/t/1/sub/plugin7":      false,
		"unix /run/docker.sock":          false,
		"unix plugin7":                   false,
		"unix ":                          false,
		"tcp 127.0.0.1:80":               false,
		"tcp /run/t/1/plugin7":           false,
		"unix /run/t/1/../../t/1/plugin": true,
	} {
		network, path, _ := strings.Cut(address, " ")
		if err := checkSocket(network, path, "/run/t/1"); (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte("1|1|unix|/tmp/p|grpc\n"))
	f.Add([]byte("noise\n|||\n18446744073709551616|||\n"))
	f.Add([]byte("\x00|\xff\n1|\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		hs := newHandshake(newOutput(slog.New(slog.DiscardHandler), new(atomic.Int64)), false)
		done := make(chan struct{})
		go func() {
			defer close(done)
			hs.copy(strings.NewReader(string(data)))
		}()
		line, err := io.ReadAll(hs.forPlugin)
		<-done
		if err != nil || strings.Count(string(line), "\n") > 1 || len(line) > maxLine+1 {
			t.Errorf("go-plugin reads %q, %v", line, err)
		}
	})
}

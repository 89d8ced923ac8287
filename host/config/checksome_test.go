package config

import (
	"strings"
	"testing"

	"github.com/towpath-dataplane/towpath/sdk"
)

// What a plugin that is absent could make good is told, and is no error; what it could not is one.
func TestCheckSome(t *testing.T) {
	text := minimal + `
plugin "away" {
  config {
    root = "/srv"
  }
}
plugin "here" {}
dataset "d" {
  source "Away" {
    path = "x"
  }
  sink "Here" {
    nonsense = "x"
  }
}
`
	here := sdk.Description{Name: "here", Sinks: []sdk.AddressType{{Type: "Here", Address: sdk.Schema{Open: true}}}}
	c, err := Load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	later, err := c.CheckSome([]sdk.Description{here}, "away")
	if err != nil || later == nil {
		t.Fatalf("later %v, now %v", later, err)
	}
	checkError(t, later)
	for _, want := range []string{`The plugin "away" in`, `No plugin reads "Away"`} {
		if !strings.Contains(later.Error(), want) {
			t.Errorf("%q is not in: %v", want, later)
		}
	}
	if string(c.PluginConfig("here")) != "{}" {
		t.Errorf("configuration of the plugin that is there: %s", c.PluginConfig("here"))
	}
	here.Sinks[0].Address.Open = false
	if _, err := c.CheckSome([]sdk.Description{here}, "away"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("an address that is wrong: %v", err)
	}
	if err := c.Check([]sdk.Description{here}); err == nil || !strings.Contains(err.Error(), `There is no plugin "away"`) {
		t.Errorf("nothing may be absent: %v", err)
	}
}

// A plugin without a block that offers what another does is no error where plugins come and go: the host would not start again otherwise.
func TestCheckSomeWithRivals(t *testing.T) {
	c, err := Load(write(t, minimal+"\nplugin \"here\" {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	types := []sdk.AddressType{{Type: "Here"}}
	rivals := []sdk.Description{{Name: "a-rival", Sinks: types}, {Name: "here", Sinks: types}}
	const want = `The plugins "here" and "a-rival" both offer the type "Here"`
	later, err := c.CheckSome(rivals)
	if err != nil || later == nil || !strings.Contains(later.Error(), want) {
		t.Errorf("later %v, now %v", later, err)
	}
	if err := c.Check(rivals); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("where they do not: %v", err)
	}
}

func TestConfigurePlugin(t *testing.T) {
	c, err := Load(write(t, minimal+`
plugin "file" {
  config {
    root = "/srv"
  }
}
`))
	if err != nil {
		t.Fatal(err)
	}
	needy := sdk.Schema{Fields: []sdk.Field{{Name: "root", Required: true}, {Name: "depth", Kind: sdk.Int, Default: "3"}}}
	for _, test := range []struct {
		plugin     string
		schema     sdk.Schema
		want, says string
	}{
		{"file", needy, `{"depth":3,"root":"/srv"}`, ""},
		{"file", sdk.Schema{}, "", `The plugin has no attribute "root"`},
		{"other", sdk.Schema{}, "{}", ""},
		{"other", needy, "", `it needs a plugin block "other" with its configuration`},
	} {
		got, err := c.ConfigurePlugin(sdk.Description{Name: test.plugin, Config: test.schema})
		if string(got) != test.want || (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %s, %v", test.plugin, got, err)
		}
	}
}

package pluginhost

import (
	"os"
	"path/filepath"
	"testing"
)

// Another folder under the same path is heard, too.
func TestEarsFollowAPath(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "plugins")
	events := make(chan struct{}, 1)
	l, err := listen(events)
	if err != nil {
		t.Fatal(err)
	}
	defer l.stop()
	l.to([]string{folder}) // it is not there yet
	for _, name := range []string{"one", "two"} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		l.to([]string{folder})
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		<-events
		if err := os.Rename(folder, folder+"-"+name); err != nil {
			t.Fatal(err)
		}
		for len(l.watcher.WatchList()) > 0 {
			<-events // until that of the folder itself
		}
		for len(events) > 0 {
			<-events
		}
	}
}

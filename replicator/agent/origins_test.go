package agent

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
)

// The other datacenter says the names: what no export has is not opened, whatever it is called.
func TestOriginsAreWhatIsExported(t *testing.T) {
	o := origins{stores: fsutil.NewStores(fsutil.StoresConfig{})}
	for _, s := range []string{"file:/data/flink", "file:/data/changelog"} {
		u, err := fsutil.ParseURI(s)
		if err != nil {
			t.Fatal(err)
		}
		o.places = append(o.places, u)
	}
	for s, want := range map[string]bool{
		"file:/data/flink": true, "file:/data/flink/orders/x": true, "file:/data/changelog/j": true,
		"file:/data": false, "file:/data/flink2": false, "file:/etc": false, "hdfs://dc-a/data/flink": false,
		"file:/data/flink/../../etc": false, "file:/": false,
	} {
		u, err := fsutil.ParseURI(s)
		if err != nil {
			if want {
				t.Errorf("%s: %v", s, err)
			}
			continue
		}
		_, err = o.OpenRead(t.Context(), u)
		if want != (err == nil) || !want && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("OpenRead(%s) = %v, want it opened: %v", s, err, want)
		}
	}
}

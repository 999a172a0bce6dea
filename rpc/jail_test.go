package rpc

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ckptferry/ckptferry/fsutil"
	peerv1 "github.com/ckptferry/ckptferry/proto/ckptferry/peer/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

func TestReadablePlaces(t *testing.T) {
	for name, tc := range map[string]struct {
		export raftstore.Export
		want   []string
	}{
		"a base up to the element before the job": {raftstore.Export{Bases: []string{"hdfs://dc1/flink/checkpoints/{job}"}}, []string{"hdfs://dc1/flink/checkpoints"}},
		"what comes after the job is inside":      {raftstore.Export{Bases: []string{"hdfs://dc1/flink/{job}/checkpoints"}}, []string{"hdfs://dc1/flink"}},
		"other places whole":                      {raftstore.Export{AlsoReadable: []string{"file:/changelog"}}, []string{"file:/changelog"}},
		"a base without a job is nothing":         {raftstore.Export{Bases: []string{"hdfs://dc1/flink/checkpoints", "hdfs://dc1/a{job}/b"}}, nil},
		"no scheme is nothing":                    {raftstore.Export{Bases: []string{"/data/{job}", "data/{job}"}, AlsoReadable: []string{"/changelog", "."}}, nil},
		"dot segments are resolved first":         {raftstore.Export{Bases: []string{"file:/data/x/../y/{job}"}}, []string{"file:/data/y"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, u := range readablePlaces(tc.export) {
				got = append(got, u.String())
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("readablePlaces = %v; want %v", got, tc.want)
			}
		})
	}
}

// jailWorld is a source on a real directory: checkpoints is exported, changelog may be read beside it, nothing else.
type jailWorld struct {
	dir    string // file:… of the directory that all lies in
	client peerv1.PeerServiceClient
}

func newJailWorld(t *testing.T) *jailWorld {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{
		"checkpoints/orders/f": "mine", "checkpoints/orders/sub/f": "mine", "changelog/f": "mine",
		"secret": "secret", "checkpoints-2/orders/f": "secret", "changelog-2/f": "secret", "other/f": "secret",
	} {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"checkpoints/orders/out": dir + "/secret", "checkpoints/orders/outdir": dir + "/other", "checkpoints/orders/up": "../../other",
		"checkpoints/orders/inside": "sub/f", "checkpoints/orders/insidedir": "sub", "checkpoints/outjob": dir + "/other",
		"alias": dir + "/checkpoints", "aliasout": dir + "/other",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	n := newNetwork()
	g := newGroup(raftstore.Export{Name: "prod", Bases: []string{"file:" + dir + "/checkpoints/{job}"}, AlsoReadable: []string{"file:" + dir + "/changelog"}, To: []string{"dc2"}},
		raftstore.Export{Name: "alias", Bases: []string{"file:" + dir + "/alias/{job}"}, To: []string{"dc2"}})
	servePeers(t, n, "a1", sourceConfig(g, fsutil.NewStores(fsutil.StoresConfig{})))
	return &jailWorld{dir: "file:" + dir, client: rawClient(t, n, "a1", "dc2")}
}

// ask fetches, describes and lists a place, and gives the bytes and the kind of each answer; "" for success.
func (w *jailWorld) ask(t *testing.T, export string, place *peerv1.Place) (data, fetch, stat, list string) {
	t.Helper()
	stream, err := w.client.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&peerv1.FetchRequest{Export: export, File: place}); err != nil {
		t.Fatal(err)
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		data += string(answer.GetPiece().GetData())
		if answer.GetEnd() != nil || answer.GetError() != nil {
			fetch = answer.GetError().GetKind()
			break
		}
	}
	described, err := w.client.Stat(t.Context(), &peerv1.StatRequest{Export: export, Places: []*peerv1.Place{place}})
	if err != nil {
		t.Fatal(err)
	}
	stat = described.GetResults()[0].GetError().GetKind()
	listed, err := w.client.List(t.Context(), &peerv1.ListRequest{Export: export, Directory: place})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := listed.Recv()
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return data, fetch, stat, answer.GetError().GetKind()
}

func TestAPeerReadsWhatIsExportedAndNothingElse(t *testing.T) {
	w := newJailWorld(t)
	at := func(root, name string) *peerv1.Place { return &peerv1.Place{Root: root, Name: name} }
	for what, tc := range map[string]struct {
		place *peerv1.Place
		dir   bool // it is there, and a directory
		kind  string
	}{
		"a file of a job":                            {place: at(w.dir+"/checkpoints", "orders/f")},
		"with the job as the root":                   {place: at(w.dir+"/checkpoints/orders", "f")},
		"with a root above, which export has not":    {place: at(w.dir, "checkpoints/orders/f")},
		"with the root of all":                       {place: at("file:/", strings.TrimPrefix(w.dir, "file:/")+"/checkpoints/orders/f")},
		"as another spelling":                        {place: at("FILE://"+strings.TrimPrefix(w.dir, "file:")+"/x/../checkpoints//orders/", "f")},
		"through a link that stays inside":           {place: at(w.dir+"/checkpoints", "orders/inside")},
		"through a directory link that stays inside": {place: at(w.dir+"/checkpoints", "orders/insidedir/f")},
		"also readable":                              {place: at(w.dir+"/changelog", "f")},
		"the base itself":                            {place: at(w.dir+"/checkpoints", "."), dir: true},

		"absent inside":                       {place: at(w.dir+"/checkpoints", "orders/none"), kind: "not_exist"},
		"a file beside":                       {place: at(w.dir, "secret"), kind: "permission"},
		"absent beside, which is not told":    {place: at(w.dir, "none"), kind: "permission"},
		"the directory above":                 {place: at(w.dir, "."), kind: "permission"},
		"the root of all itself":              {place: at("file:/", "."), kind: "permission"},
		"a directory whose name goes on":      {place: at(w.dir+"/checkpoints-2", "orders/f"), kind: "permission"},
		"the same of what is also readable":   {place: at(w.dir+"/changelog-2", "f"), kind: "permission"},
		"out by a link to a file":             {place: at(w.dir+"/checkpoints", "orders/out"), kind: "permission"},
		"out by a link to a directory":        {place: at(w.dir+"/checkpoints", "orders/outdir/f"), kind: "permission"},
		"out by a relative link":              {place: at(w.dir+"/checkpoints", "orders/up/f"), kind: "permission"},
		"out by a link that is the root":      {place: at(w.dir+"/checkpoints/outjob", "f"), kind: "permission"},
		"out by dots in the name":             {place: at(w.dir+"/checkpoints", "../secret"), kind: "invalid"},
		"by dots that come back":              {place: at(w.dir+"/checkpoints", "orders/../orders/f"), kind: "invalid"},
		"out by dots in the root":             {place: at(w.dir+"/checkpoints/../other", "f"), kind: "permission"},
		"out by dots over the root":           {place: at(w.dir+"/checkpoints/../../../../../../../../..", "etc/passwd"), kind: "permission"},
		"an absolute name":                    {place: at(w.dir+"/checkpoints", "/etc/passwd"), kind: "invalid"},
		"an absolute URI as the name":         {place: at(w.dir+"/checkpoints", "file:/etc/passwd"), kind: "not_exist"},
		"encoded dots in the name":            {place: at(w.dir+"/checkpoints", "%2e%2e/secret"), kind: "not_exist"},
		"encoded slashes in the name":         {place: at(w.dir+"/checkpoints", "..%2fsecret"), kind: "not_exist"},
		"encoded dots in the root":            {place: at(w.dir+"/checkpoints/%2e%2e", "secret"), kind: "not_exist"},
		"backslashes":                         {place: at(w.dir+"/checkpoints", `..\secret`), kind: "not_exist"},
		"a NUL byte in the name":              {place: at(w.dir+"/checkpoints", "orders/f\x00"), kind: "invalid"},
		"a NUL byte in the root":              {place: at(w.dir+"/checkpoints\x00", "orders/f"), kind: "invalid"},
		"a name of 300 bytes":                 {place: at(w.dir+"/checkpoints", strings.Repeat("x", 300)), kind: "invalid"},
		"an empty name":                       {place: at(w.dir+"/checkpoints", ""), kind: "invalid"},
		"no root":                             {place: at("", "f"), kind: "invalid"},
		"no place":                            {place: nil, kind: "invalid"},
		"a root without a scheme":             {place: at(strings.TrimPrefix(w.dir, "file:")+"/checkpoints", "orders/f"), kind: "invalid"},
		"a relative root":                     {place: at("checkpoints", "orders/f"), kind: "invalid"},
		"a root on another host":              {place: at("file://host"+strings.TrimPrefix(w.dir, "file:")+"/checkpoints", "orders/f"), kind: "invalid"},
		"a root of another scheme":            {place: at("hdfs:"+strings.TrimPrefix(w.dir, "file:")+"/checkpoints", "orders/f"), kind: "permission"},
		"another name of what is exported":    {place: at(w.dir+"/alias", "orders/f"), kind: "permission"},
		"a letter in another case":            {place: at(w.dir+"/CHECKPOINTS", "orders/f"), kind: "permission"},
		"a process's own view of the machine": {place: at("file:/proc/self/root"+strings.TrimPrefix(w.dir, "file:")+"/checkpoints", "orders/f"), kind: "permission"},
	} {
		t.Run(what, func(t *testing.T) {
			data, fetch, stat, list := w.ask(t, "prod", tc.place)
			wantFetch, wantList := tc.kind, tc.kind
			if tc.kind == "" && tc.dir {
				wantFetch = "invalid"
			} else if tc.kind == "" {
				wantList = "invalid"
			}
			if fetch != wantFetch || stat != tc.kind || list != wantList {
				t.Errorf("Fetch says %q, Stat %q, List %q; want %q, %q, %q", fetch, stat, list, wantFetch, tc.kind, wantList)
			}
			if strings.Contains(data, "secret") || tc.kind == "" && !tc.dir && data != "mine" {
				t.Errorf("Fetch gave %q", data)
			}
		})
	}
}

// What an export names by a symbolic link may be asked for by the link and by where it leads.
func TestAnExportThatIsNamedByALink(t *testing.T) {
	w := newJailWorld(t)
	for _, root := range []string{"/alias", "/checkpoints"} {
		if data, kind, _, _ := w.ask(t, "alias", &peerv1.Place{Root: w.dir + root, Name: "orders/f"}); data != "mine" || kind != "" {
			t.Errorf("a file by the root %s = %q, %q", root, data, kind)
		}
	}
	if _, kind, _, _ := w.ask(t, "alias", &peerv1.Place{Root: w.dir + "/alias", Name: "orders/out"}); kind != "permission" {
		t.Errorf("a link out of it is %q", kind)
	}
}

// A link that is put there after the look at the names is held by the file system's own jail.
func TestTheFileSystemIsRootedAtTheExportsPlace(t *testing.T) {
	var roots []string
	n := newNetwork()
	g := newGroup(raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/flink/cp/{job}/x"}, AlsoReadable: []string{"hdfs://dc1/log"}, To: []string{"dc2"}})
	servePeers(t, n, "a1", sourceConfig(g, opener{func(root fsutil.URI) (fsutil.ReadFS, error) {
		roots = append(roots, root.String())
		return fsutil.NewMemory(root), nil
	}}))
	client := rawClient(t, n, "a1", "dc2")
	for _, root := range []string{"hdfs://dc1/flink/cp/orders/x/deep", "hdfs://dc1/flink/cp", "hdfs://dc1/log/a", "hdfs://dc1"} {
		_, err := client.Stat(t.Context(), &peerv1.StatRequest{Export: "prod", Places: []*peerv1.Place{{Root: root, Name: "flink"}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"hdfs://dc1/flink/cp", "hdfs://dc1/log"}; !slices.Equal(roots, want) {
		t.Errorf("opened %v; want %v", roots, want)
	}
}

func TestOnlyTheDatacentersOfAnExportAreAnswered(t *testing.T) {
	n := newNetwork()
	files := fsutil.NewMemory(memoryRoot)
	put(t, files, "orders/f", []byte("mine"))
	g := newGroup(raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/flink/{job}"}, To: []string{"dc2", "dc3"}})
	servePeers(t, n, "a1", sourceConfig(g, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return files, nil }}))

	// calls are the codes of Stat, List, Watch and Fetch.
	calls := func(datacenter, export string) (got [4]codes.Code) {
		t.Helper()
		client := rawClient(t, n, "a1", datacenter)
		place := &peerv1.Place{Root: "hdfs://dc1/flink", Name: "orders/f"}
		_, err := client.Stat(t.Context(), &peerv1.StatRequest{Export: export, Places: []*peerv1.Place{place}})
		got[0] = status.Code(err)
		list, err := client.List(t.Context(), &peerv1.ListRequest{Export: export, Directory: place})
		if err == nil {
			_, err = list.Recv()
		}
		got[1] = status.Code(err)
		watch, err := client.Watch(t.Context(), &peerv1.WatchRequest{Export: export})
		if err == nil {
			_, err = watch.Recv()
		}
		got[2] = status.Code(err)
		fetch, err := client.Fetch(t.Context())
		if err == nil {
			err = fetch.Send(&peerv1.FetchRequest{Export: export, File: place})
		}
		if err == nil {
			_, err = fetch.Recv()
		}
		got[3] = status.Code(err)
		return got
	}
	all := func(c codes.Code) [4]codes.Code { return [4]codes.Code{c, c, c, c} }
	for _, tc := range []struct {
		datacenter, export string
		want               [4]codes.Code
	}{
		{"dc2", "prod", all(codes.OK)}, {"dc3", "prod", all(codes.OK)}, {"dc4", "prod", all(codes.PermissionDenied)},
		{"DC2", "prod", all(codes.PermissionDenied)}, {"dc1", "prod", all(codes.PermissionDenied)},
		{"dc2", "other", all(codes.NotFound)}, {"dc2", "", all(codes.NotFound)},
	} {
		if got := calls(tc.datacenter, tc.export); got != tc.want {
			t.Errorf("%s asks for export %q: %v; want %v", tc.datacenter, tc.export, got, tc.want)
		}
	}

	g.change(func() {
		g.exports["prod"] = raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/flink/{job}"}, To: []string{"dc3"}}
	})
	if got := calls("dc2", "prod"); got != all(codes.PermissionDenied) {
		t.Errorf("dc2, which may not read any more: %v", got)
	}
}

func FuzzNoNameLeadsOut(f *testing.F) {
	for _, seed := range [][2]string{{"file:/data/cp", "a"}, {"file:/data", "../x"}, {"file:///data/cp/..", "cp/a"}, {"%66ile:/data/cp", "a"}, {"/data/cp", "a"}} {
		f.Add(seed[0], seed[1])
	}
	place := fsutil.URI{Scheme: "hdfs", Authority: "dc1", Path: "/data/cp"}
	e := raftstore.Export{Name: "prod", Bases: []string{place.String() + "/{job}"}}
	j := newJail(opener{func(root fsutil.URI) (fsutil.ReadFS, error) { return fsutil.NewMemory(root), nil }}, nil)
	f.Fuzz(func(t *testing.T, root, name string) {
		at, err := j.find(t.Context(), e, &peerv1.Place{Root: root, Name: name})
		if err != nil {
			return
		}
		if at.fs.Root() != place {
			t.Errorf("%q, %q opens %s", root, name, at.fs.Root())
		}
		if !fs.ValidPath(at.name) {
			t.Errorf("%q, %q is %q", root, name, at.name)
		}
	})
}

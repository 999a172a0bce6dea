package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// good is a configuration that sets everything.
const good = `version: 1
node:   {id: dc1-a, dc: dc1, data_dir: data}
listen: {api: 0.0.0.0:7070, peer: 0.0.0.0:7071, http: 0.0.0.0:7073, http_insecure: true, raft: 0.0.0.0:7072}
raft:
  peers: [dc1-a=10.1.0.11:7072, dc1-b=10.1.0.12:7072, "dc1-c=[::1]:7072"]
datacenters:
  dc2: {endpoints: [agent-a.dc2:7071, agent-b.dc2:7071, "[::1]:7071"]}
tls:
  cert_file: tls/agent.crt
  key_file:  tls/agent.key
  ca_file:   /etc/ckptferry/ca.crt
stores:
  hdfs://dc1:
    also: ["viewfs://dc1", "hdfs://nn1.dc1:8020"]
    hdfs:
      namenodes: [nn1.dc1:8020, nn2.dc1:8020]
      user: flink
      kerberos: {principal: ckptferry@DC1, keytab_file: agent.keytab, krb5_conf: /etc/krb5.conf}
  hdfs://mounted/flink: {reach: "file:/mnt/flink"}
limits: {parallel: 2, files: 8, poll: 200ms, silent_after: 1m, link_rate: 400MiB/s}
log:    {level: debug, format: json}
migrate:
  hooks:
    flink: [/usr/local/bin/start-job, --detached]
`

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func noEnv(string) string { return "" }

func TestEverySettingIsRead(t *testing.T) {
	file := write(t, good)
	got, err := ReadAgent(file, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	if want := (Node{ID: "dc1-a", DC: "dc1", DataDir: filepath.Join(dir, "data")}); got.Node != want {
		t.Errorf("node %+v, want %+v: a relative directory is the file's", got.Node, want)
	}
	if want := (TLS{filepath.Join(dir, "tls/agent.crt"), filepath.Join(dir, "tls/agent.key"), "/etc/ckptferry/ca.crt"}); got.TLS != want {
		t.Errorf("tls %+v, want %+v", got.TLS, want)
	}
	if got.Listen.HTTP != "0.0.0.0:7073" || !got.Listen.HTTPInsecure {
		t.Errorf("listen %+v, want http", got.Listen)
	}
	voters := []Voter{{"dc1-a", "10.1.0.11:7072"}, {"dc1-b", "10.1.0.12:7072"}, {"dc1-c", "[::1]:7072"}}
	if diff := cmp.Diff(voters, got.Voters); diff != "" {
		t.Errorf("voters (-want +got):\n%s", diff)
	}
	// One YAML library reads a list of host:port in a flow map as a map: this must not come back.
	endpoints := []string{"agent-a.dc2:7071", "agent-b.dc2:7071", "[::1]:7071"}
	if diff := cmp.Diff(endpoints, got.Datacenters["dc2"].Endpoints); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if want := (Limits{2, 8, 200 * time.Millisecond, time.Minute, 400 << 20, 50 << 20}); got.Limits != want {
		t.Errorf("limits %+v, want %+v", got.Limits, want)
	}
	if diff := cmp.Diff(map[string][]string{"flink": {"/usr/local/bin/start-job", "--detached"}}, got.Migrate.Hooks); diff != "" {
		t.Errorf("hooks (-want +got):\n%s", diff)
	}
	if want := (Log{"debug", "json"}); got.Log != want {
		t.Errorf("log %+v, want %+v", got.Log, want)
	}
	if len(got.Places) != 2 || len(got.Places[0].Prefixes) != 3 || got.Places[0].Reach.String() != "hdfs://dc1/" || got.Places[1].Reach.String() != "file:/mnt/flink" {
		t.Errorf("places %+v", got.Places)
	}
	if got := got.Places[0].HDFS.Kerberos.KeytabFile; got != filepath.Join(dir, "agent.keytab") {
		t.Errorf("keytab %s, want it below the file's directory", got)
	}
}

// small is the least that a configuration has to say.
const small = `version: 1
node: {id: a, dc: dc1, data_dir: /var/lib/ckptferry}
stores: {"file:/flink": {}}
`

func TestWhatIsLeftOutHasDefaults(t *testing.T) {
	got, err := ReadAgent(write(t, small), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Limits{Parallel: 4, Files: 16, Poll: 5 * time.Second, SilentAfter: 30 * time.Second, ScrubRate: 50 << 20}); got.Limits != want {
		t.Errorf("limits %+v, want %+v", got.Limits, want)
	}
	if want := (Listen{API: "127.0.0.1:7070", Peer: "127.0.0.1:7071"}); got.Listen != want {
		t.Errorf("listen %+v, want %+v", got.Listen, want)
	}
	if want := []Voter{{ID: "a"}}; !slices.Equal(got.Voters, want) {
		t.Errorf("voters %+v, want the agent alone", got.Voters)
	}
}

func TestTheEnvironmentWinsOverTheFile(t *testing.T) {
	env := map[string]string{"CKPTFERRY_NODE_ID": "b", "CKPTFERRY_LOG_LEVEL": "warn"}
	got, err := ReadAgent(write(t, small), func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if got.Node.ID != "b" || got.Log.Level != "warn" || got.Voters[0].ID != "b" {
		t.Errorf("node %s (voter %s), level %s; want b, b, warn", got.Node.ID, got.Voters[0].ID, got.Log.Level)
	}
	env["CKPTFERRY_LOG_LEVEL"] = "loud"
	if _, err := ReadAgent(write(t, small), func(name string) string { return env[name] }); err == nil {
		t.Error("a level that doesn't exist was taken from the environment")
	}
}

func TestAllMistakesAreReportedAtOnceWithTheirPlaces(t *testing.T) {
	file := write(t, `version: 1
node:
  idd: dc1-a
  dc: dc1
  data_dir: data
  dc: dc3
listen: {api: 7070}
stores: {"file:/flink": {}}
limits:
  poll: 5
  parallel: many
log: {level: inof}
`)
	_, err := ReadAgent(file, noEnv)
	want := strings.ReplaceAll(`FILE has 7 problems
FILE:2:1: node.id is missing
     2 | node:
       | ^
FILE:3:3: unknown key "idd" (did you mean "id"?)
     3 |   idd: dc1-a
       |   ^
FILE:6:3: key "dc" is there twice: first in line 4
     6 |   dc: dc3
       |   ^
FILE:7:15: listen.api: "7070": want HOST:PORT
     7 | listen: {api: 7070}
       |               ^
FILE:10:9: limits.poll: "5": want a duration, like 5s, 200ms or 1h30m
    10 |   poll: 5
       |         ^
FILE:11:13: limits.parallel: "many": want a whole number
    11 |   parallel: many
       |             ^
FILE:12:14: log.level: unknown "inof" (did you mean "info"?)
    12 | log: {level: inof}
       |              ^`, "FILE", file)
	if err == nil {
		t.Fatal("accepted")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEachMistakeIsNamedWhereItStands(t *testing.T) {
	for name, tc := range map[string]struct {
		from, to string // replaced in good
		want     string // LINE:COLUMN: and a part of the text
	}{
		"no YAML":                         {"version: 1", "version: [1", `\d+:\d+: this is no YAML: `},
		"another version":                 {"version: 1", "version: 2", `1:10: version 2: this ckptferry reads version 1`},
		"an anchor":                       {"{id: dc1-a", "{id: &x dc1-a", `2:\d+: anchors and aliases`},
		"a group of two":                  {`, "dc1-c=[::1]:7072"`, "", `5:\d+: raft.peers: 2 agents`},
		"a group without this agent":      {"dc1-a=10.1.0.11", "dc1-x=10.1.0.11", `5:3: raft.peers: this agent, "dc1-a", is not among them`},
		"an agent twice":                  {"dc1-b=", "dc1-a=", `5:\d+: raft.peers\[1\]: agent "dc1-a" is there twice`},
		"a voter without a port":          {"dc1-b=10.1.0.12:7072", "dc1-b=10.1.0.12", `5:\d+: raft.peers\[1\]: "10.1.0.12": want HOST:PORT`},
		"a voter without a name":          {"dc1-b=10.1.0.12:7072", "10.1.0.12:7072", `5:\d+: raft.peers\[1\]: "10.1.0.12:7072": want ID=HOST:PORT`},
		"a raft address that is none":     {"raft: 0.0.0.0:7072}", "raft: 7072}", `3:\d+: listen.raft: "7072": want HOST:PORT`},
		"any port for raft":               {"raft: 0.0.0.0:7072}", "raft: 0.0.0.0:0}", `3:\d+: listen.raft: "0.0.0.0:0": want the port that raft.peers says`},
		"a raft listener for nobody":      {"  peers: [dc1-a=10.1.0.11:7072, dc1-b=10.1.0.12:7072, \"dc1-c=[::1]:7072\"]\n", "", `3:\d+: listen.raft: a group of one`},
		"one address for two":             {"peer: 0.0.0.0:7071", "peer: 0.0.0.0:7070", `3:\d+: listen.api and listen.peer are both`},
		"one address for metrics too":     {"http: 0.0.0.0:7073", "http: 0.0.0.0:7071", `3:\d+: listen.peer and listen.http are both`},
		"metrics for whoever asks":        {"http_insecure: true", "http_insecure: false", `3:\d+: listen.http: 0.0.0.0:7073 is not a loopback address, and it is plain HTTP`},
		"no address for metrics":          {"http: 0.0.0.0:7073", "http: 7073", `3:\d+: listen.http: "7073": want HOST:PORT`},
		"its own datacenter":              {"  dc2:", "  dc1:", `7:3: datacenters: "dc1" is this agent's own`},
		"no endpoints":                    {`[agent-a.dc2:7071, agent-b.dc2:7071, "[::1]:7071"]`, "[]", `7:3: datacenters.dc2: endpoints are missing`},
		"an endpoint on port 0":           {"agent-a.dc2:7071", "agent-a.dc2:0", `7:\d+: datacenters.dc2.endpoints\[0\]`},
		"a hook by its name":              {"[/usr/local/bin/start-job, --detached]", "[start-job]", `24:\d+: migrate.hooks.flink: "start-job": name the program by its whole path`},
		"a hook that is nothing":          {"[/usr/local/bin/start-job, --detached]", "[]", `24:\d+: migrate.hooks.flink: it is empty`},
		"a hook with a strange name":      {"    flink:", "    \"fl ink\":", `24:\d+: migrate.hooks: "fl ink": want letters`},
		"half of tls":                     {"  ca_file:   /etc/ckptferry/ca.crt\n", "", `8:1: tls.ca_file is missing`},
		"tls and insecure":                {"log:  ", "insecure: true\nlog:  ", `21:11: insecure: true contradicts tls`},
		"no store":                        {"stores:", "tores:", `\d+:\d+: unknown key "tores" \(did you mean "stores"\?\)`},
		"a store that is no URI":          {"  hdfs://mounted/flink:", "  mounted/flink:", `19:3: "mounted/flink": want a URI`},
		"a store twice":                   {"viewfs://dc1", "hdfs://dc1/", `14:\d+: stores: "hdfs://dc1/" is there twice`},
		"a store that can't be reached":   {`{reach: "file:/mnt/flink"}`, `{reach: "s3://bucket"}`, `19:\d+: stores: hdfs://mounted/flink can't be reached by scheme "s3"`},
		"HDFS settings of a directory":    {`{reach: "file:/mnt/flink"}`, `{reach: "file:/mnt/flink", hdfs: {user: x}}`, `19:\d+: stores: hdfs://mounted/flink is reached at file:/mnt/flink, which is not HDFS`},
		"a principal without a keytab":    {"keytab_file: agent.keytab, ", "", `18:\d+: stores: hdfs://dc1: kerberos needs both`},
		"polls more rarely than silent":   {"silent_after: 1m", "silent_after: 100ms", `20:\d+: limits.silent_after: 100ms is not longer than limits.poll`},
		"a rate that is none":             {"link_rate: 400MiB/s", "link_rate: fast", `20:\d+: limits.link_rate: "fast": want bytes per second, like 200MiB/s, or none`},
		"nothing at a time":               {"parallel: 2", "parallel: 0", `20:\d+: limits.parallel: 0: want 1 to 1024`},
		"a list where one value belongs":  {"level: debug", "level: [debug]", `21:\d+: log.level: want one value`},
		"a value where a list belongs":    {"[nn1.dc1:8020, nn2.dc1:8020]", "nn1.dc1:8020", `16:\d+: stores.hdfs://dc1.hdfs.namenodes: want a list`},
		"a value where keys belong":       {"log:    {level: debug, format: json}", "log: debug", `21:6: want keys with values below log`},
		"a key without a value":           {"user: flink", "user:", `17:\d+: stores.hdfs://dc1.hdfs.user has no value`},
		"a name with a slash":             {"dc: dc1,", "dc: dc/1,", `2:\d+: node.dc: "dc/1": want letters`},
		"two documents":                   {"version: 1", "version: 1\n---\nversion: 1", `\d+:\d+: this is no YAML: `},
		"namenodes of no nameservice":     {"  hdfs://dc1:\n", "  \"hdfs:///\":\n", `16:\d+: stores: hdfs:/// names no nameservice`},
		"a voter that nobody can dial":    {"dc1-b=10.1.0.12:7072", "dc1-b=:7072", `5:\d+: raft.peers\[1\]: ":7072": want the host and the port`},
		"plaintext beyond this machine":   {"tls:\n  cert_file: tls/agent.crt\n  key_file:  tls/agent.key\n  ca_file:   /etc/ckptferry/ca.crt\n", "", `3:15: listen.api: 0.0.0.0:7070 is not a loopback address and there is no tls`},
		"plaintext to another datacenter": {"tls:\n  cert_file: tls/agent.crt\n  key_file:  tls/agent.key\n  ca_file:   /etc/ckptferry/ca.crt\n", "", `7:\d+: datacenters.dc2.endpoints\[0\]: agent-a.dc2:7071 is not a loopback address`},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, tc.from) {
				t.Fatalf("%q is not in the good configuration", tc.from)
			}
			_, err := ReadAgent(write(t, strings.Replace(good, tc.from, tc.to, 1)), noEnv)
			var errs *Errors
			if !errors.As(err, &errs) {
				t.Fatalf("%v is no *Errors", err)
			}
			if !regexp.MustCompile(`(?m)agent\.yaml:` + tc.want).MatchString(err.Error()) {
				t.Errorf("want %s in\n%v", tc.want, err)
			}
		})
	}
}

func TestPlaintextIsForLoopbackOrOnRequest(t *testing.T) {
	for name, tc := range map[string]struct {
		more string
		ok   bool
	}{
		"loopback":             {"listen: {api: '127.0.0.1:0', peer: '[::1]:7071'}\ndatacenters: {dc2: {endpoints: ['localhost:7171']}}\n", true},
		"all addresses":        {"listen: {api: ':7070'}\n", false},
		"all, and it was said": {"listen: {api: ':7070'}\ninsecure: true\n", true},
		"metrics, on loopback": {"listen: {http: '127.0.0.1:7073'}\n", true},
		"metrics, for all":     {"listen: {http: ':7073'}\n", false},
		"and it was said":      {"listen: {http: ':7073', http_insecure: true}\n", true},
		"a name":               {"listen: {peer: 'agent-a.dc1:7071'}\n", false},
	} {
		if _, err := ReadAgent(write(t, small+tc.more), noEnv); (err == nil) != tc.ok {
			t.Errorf("%s: %v, want it accepted: %t", name, err, tc.ok)
		}
	}
}

func TestAnEmptyOrHugeFileIsOneProblem(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "a comment": "# nothing\n", "huge": strings.Repeat("#\n", maxFileBytes)} {
		_, err := ReadAgent(write(t, text), noEnv)
		var errs *Errors
		if !errors.As(err, &errs) || len(errs.Problems) != 1 {
			t.Errorf("%s: %v, want one problem", name, err)
		}
	}
}

func TestAFileThatIsNotThereIsNoMistakeInIt(t *testing.T) {
	if _, err := ReadAgent(filepath.Join(t.TempDir(), "none.yaml"), noEnv); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want %v", err, os.ErrNotExist)
	}
}

package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWhatChangesWithoutARestart(t *testing.T) {
	const before = `version: 1
node: {id: a, dc: dc1, data_dir: data}
listen: {api: 127.0.0.1:7170}
datacenters:
  dc2: {endpoints: [127.0.0.1:1]}
tls: {cert_file: c, key_file: k, ca_file: ca}
stores: {"file:/flink": {}}
limits: {parallel: 2}
`
	for name, tc := range map[string]struct {
		replace, by string
		changed     []string
		refused     []string // what the error says
	}{
		"nothing":                 {"", "", nil, nil},
		"a comment":               {"limits:", "# more\nlimits:", nil, nil},
		"limits":                  {"parallel: 2", "parallel: 3", []string{"limits"}, nil},
		"another certificate":     {"cert_file: c,", "cert_file: c2,", []string{"tls"}, nil},
		"log":                     {"version: 1", "version: 1\nlog: {level: debug, format: json}", []string{"log"}, nil},
		"two of them":             {"limits: {parallel: 2}", "limits: {files: 9}\nlog: {level: warn}", []string{"limits", "log"}, nil},
		"the datacenter":          {"dc: dc1", "dc: dc9", nil, []string{":2:19: node.dc has changed from \"dc1\"", "^"}},
		"an address":              {"127.0.0.1:7170", "127.0.0.1:7171", nil, []string{":3:15: listen.api has changed"}},
		"another datacenter":      {"  dc2:", "  dc3: {endpoints: [h:2]}\n  dc2:", nil, []string{`:5:3: datacenters: "dc3" is new`}},
		"a datacenter less":       {"  dc2: {endpoints: [127.0.0.1:1]}", "  {}", nil, []string{`datacenters: "dc2" is gone`}},
		"an endpoint":             {"[127.0.0.1:1]", "[h:2]", nil, []string{"datacenters.dc2.endpoints has changed from [127.0.0.1:1]"}},
		"a store":                 {`{"file:/flink": {}}`, `{"file:/flink": {reach: "file:/mnt"}}`, nil, []string{"stores.file:/flink.reach has changed"}},
		"two at once":             {"dc: dc1, data_dir: data", "dc: dc9, data_dir: d2", nil, []string{"node.dc", "node.data_dir"}},
		"no tls any more":         {"tls: {cert_file: c, key_file: k, ca_file: ca}", "", nil, []string{"tls can't be turned on or off"}},
		"what is allowed beside":  {"dc: dc1, data_dir: data}", "dc: dc9, data_dir: data}\nlog: {level: warn}", nil, []string{"node.dc"}},
		"what is wrong by itself": {"parallel: 2", "parallel: many", nil, []string{"want a whole number"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "agent.yaml")
			write := func(text string) {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			none := func(string) string { return "" }
			write(before)
			running, err := ReadAgent(file, none)
			if err != nil {
				t.Fatal(err)
			}
			write(strings.Replace(before, tc.replace, tc.by, 1))
			_, changed, err := Reload(running, none)
			var refused *Errors
			if (tc.refused != nil) != errors.As(err, &refused) || !slices.Equal(changed, tc.changed) {
				t.Fatalf("Reload = %v, %v", changed, err)
			}
			for _, want := range tc.refused {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in:\n%v", want, err)
				}
			}
		})
	}
}

func TestTheAdminListenerIsForThisMachineUnlessThereIsTLS(t *testing.T) {
	for listen, wrong := range map[string]string{
		"admin: 127.0.0.1:7074": "",
		"admin: 0.0.0.0:7074":   ":3:17: listen.admin: 0.0.0.0:7074 is not a loopback address and there is no tls",
		"admin: 127.0.0.1:7070": "listen.api and listen.admin are both 127.0.0.1:7070",
		"admin: nowhere":        "want HOST:PORT",
	} {
		file := filepath.Join(t.TempDir(), "agent.yaml")
		text := "version: 1\nnode: {id: a, dc: dc1, data_dir: data}\nlisten: {" + listen + "}\nstores: {\"file:/flink\": {}}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadAgent(file, func(string) string { return "" })
		if (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

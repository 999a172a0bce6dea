package fsutil

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// twoDatacenters is a configuration as both sides have it when jobs read across: it knows two nameservices.
var twoDatacenters = hadoopConf{
	"fs.defaultFS":                       "hdfs://dc-a",
	"dfs.nameservices":                   "dc-a, dc-b,single",
	"dfs.ha.namenodes.dc-a":              "nn1,nn2",
	"dfs.namenode.rpc-address.dc-a.nn1":  "a1.example.com:9000",
	"dfs.namenode.rpc-address.dc-a.nn2":  "${a2}",
	"a2":                                 "a2.example.com",
	"dfs.ha.namenodes.dc-b":              "x , y",
	"dfs.namenode.rpc-address.dc-b.x":    "b1.example.com:8020",
	"dfs.namenode.rpc-address.dc-b.y":    "b2.example.com:8020",
	"dfs.namenode.rpc-address.single":    "s.example.com:8021",
	"dfs.namenode.http-address.dc-a.nn1": "a1.example.com:9870",
}

func TestNamenodesOfOneNameserviceOnly(t *testing.T) {
	for authority, want := range map[string][]string{
		"dc-a":                {"a1.example.com:9000", "a2.example.com:8020"},
		"dc-b":                {"b1.example.com:8020", "b2.example.com:8020"},
		"single":              {"s.example.com:8021"},
		"other.example.com":   {"other.example.com:8020"},
		"other:9000":          {"other:9000"},
		"10.0.0.7":            {"10.0.0.7:8020"},
		"[fd00::7]":           {"[fd00::7]:8020"},
		"[fd00::7]:9000":      {"[fd00::7]:9000"},
		"localhost":           {"localhost:8020"},
		"explicit":            {"e1:8020", "e2:9000"},
		"a1.example.com:9000": {"a1.example.com:9000"}, // one namenode by its address is that one alone
	} {
		got, err := twoDatacenters.namenodes(authority, map[string][]string{"explicit": {"e1", "e2:9000"}})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("namenodes(%q) = %q, %v; want %q", authority, got, err, want)
		}
	}
}

func TestExplicitNamenodesWinOverTheConfiguration(t *testing.T) {
	got, err := twoDatacenters.namenodes("dc-a", map[string][]string{"dc-a": {"elsewhere:1"}})
	if err != nil || !slices.Equal(got, []string{"elsewhere:1"}) {
		t.Errorf("namenodes = %q, %v; want the explicit one alone", got, err)
	}
}

func TestUnknownNameserviceIsRefusedByName(t *testing.T) {
	for name, tc := range map[string]struct {
		conf      hadoopConf
		authority string
		naming    []string
	}{
		"not configured":          {twoDatacenters, "dc-c", []string{`"dc-c"`, "dc-a, dc-b, single", "dc-c:8020"}},
		"nothing configured":      {hadoopConf{}, "dc-a", []string{`"dc-a"`, "none"}},
		"a namenode's address":    {hadoopConf{"dfs.nameservices": "x", "dfs.ha.namenodes.x": "n1"}, "x", []string{"dfs.namenode.rpc-address.x.n1"}},
		"no namenodes":            {hadoopConf{"dfs.nameservices": "x,y"}, "x", []string{"dfs.ha.namenodes.x"}},
		"a port that is none":     {hadoopConf{"dfs.nameservices": "x", "dfs.namenode.rpc-address.x": "h:rpc"}, "x", []string{"h:rpc"}},
		"an address that is none": {hadoopConf{"dfs.nameservices": "x", "dfs.namenode.rpc-address.x": ":8020"}, "x", []string{":8020"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.conf.namenodes(tc.authority, nil)
			if err == nil {
				t.Fatalf("namenodes(%q) = %q; want an error", tc.authority, got)
			}
			for _, part := range tc.naming {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("namenodes(%q): %v; want it to name %s", tc.authority, err, part)
				}
			}
		})
	}
}

func TestDefaultAuthority(t *testing.T) {
	for value, want := range map[string]string{"hdfs://dc-a": "dc-a", "hdfs://h:9000/": "h:9000"} {
		if got, err := (hadoopConf{"fs.defaultFS": value}).defaultAuthority(); err != nil || got != want {
			t.Errorf("defaultAuthority of %q = %q, %v; want %q", value, got, err, want)
		}
	}
	for value, want := range map[string]string{"viewfs://mount": "viewfs", "file:///": "file:///", "": "fs.defaultFS", "s3a://b": "s3a"} {
		_, err := (hadoopConf{"fs.defaultFS": value}).defaultAuthority()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("defaultAuthority of %q: %v; want an error that names %q", value, err, want)
		}
	}
}

func TestTransferProtectionThatWorks(t *testing.T) {
	const protection, encrypt = "dfs.data.transfer.protection", "dfs.encrypt.data.transfer"
	for name, tc := range map[string]struct {
		conf  hadoopConf
		works bool
	}{
		"none":                          {hadoopConf{}, true},
		"authentication":                {hadoopConf{protection: "authentication"}, true},
		"integrity":                     {hadoopConf{protection: "integrity"}, false},
		"privacy":                       {hadoopConf{protection: "Privacy"}, false},
		"one of several":                {hadoopConf{protection: "authentication, privacy"}, false},
		"privacy below wire encryption": {hadoopConf{protection: "privacy", encrypt: "true"}, true},
	} {
		err := tc.conf.refuseTransferProtection()
		if tc.works != (err == nil) || err != nil && (!errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), protection)) {
			t.Errorf("%s: %v; works: %t", name, err, tc.works)
		}
	}
}

func TestLoadHadoopConf(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"core-site.xml": `<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="configuration.xsl"?>
<configuration xmlns:xi="http://www.w3.org/2001/XInclude">
  <xi:include href="common.xml"/>
  <property><name> fs.defaultFS </name><value>
    hdfs://${ns}
  </value><final>true</final></property>
  <property><name>user</name><value>${env.CKPTFERRY_TEST_NAME}</value></property>
  <property><name>loop</name><value>${loop}x</value></property>
  <property><name>open</name><value>${nowhere}</value></property>
</configuration>`,
		"common.xml":    `<configuration><property><name>ns</name><value>dc-a</value></property><property><name>both</name><value>core</value></property></configuration>`,
		"hdfs-site.xml": `<configuration><property><name>both</name><value>hdfs</value></property><property><name>fs.permissions.umask-mode</name><value>027</value></property></configuration>`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CKPTFERRY_TEST_NAME", "flink")
	conf, err := loadHadoopConf(dir)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"fs.defaultFS": "hdfs://dc-a", "user": "flink", "both": "hdfs", "open": "${nowhere}", "absent": ""} {
		if got := conf.get(key); got != want {
			t.Errorf("get(%q) = %q; want %q", key, got, want)
		}
	}
	conf.get("loop") // ends
	if got := conf.umask(); got != 0o027 {
		t.Errorf("umask = %o; want 027", got)
	}
}

func TestLoadHadoopConfErrorsNameTheFile(t *testing.T) {
	empty, broken, looping := t.TempDir(), t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		filepath.Join(broken, "core-site.xml"):  "<configuration><property>",
		filepath.Join(looping, "hdfs-site.xml"): `<configuration xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="hdfs-site.xml"/></configuration>`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{empty: empty, broken: "core-site.xml", looping: "hdfs-site.xml"} {
		_, err := loadHadoopConf(dir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("loadHadoopConf: %v; want an error that names %s", err, want)
		}
	}
}

package hdfslab

import (
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Options say what cluster to start. The zero value is one NameNode and one DataNode in one JVM, without security.
type Options struct {
	// Name is the nameservice of an HA cluster; "dc-a" when empty. A cluster without HA has no nameservice.
	Name string
	// Dir holds configuration, data and logs. A new temporary directory, removed by Close, when empty.
	Dir string
	// Datanodes is how many; 1 when 0.
	Datanodes int
	// Replication of new files; as many as there are DataNodes when 0.
	Replication int
	// Layout says which nodes share a JVM.
	Layout Layout
	// Security starts a Kerberos cluster with the principals of this KDC; Combined becomes Separate then.
	Security *KDC
	// TransferProtection is dfs.data.transfer.protection, "authentication" when empty; only with Security.
	TransferProtection string
	// Properties are added to core-site.xml and hdfs-site.xml and win over those of the lab.
	Properties map[string]string
	// JVM is how the nodes' JVMs are tuned.
	JVM Tuning
}

// Layout says which nodes share a JVM.
type Layout string

const (
	// Combined is all nodes in one JVM: quickest to start, one kill takes all.
	Combined Layout = ""
	// Separate is one JVM for each node: a test can kill or freeze one.
	Separate Layout = "separate"
	// HighAvailability is Separate with two NameNodes and three JournalNodes.
	HighAvailability Layout = "ha"
)

// Tuning says how the nodes' JVMs are tuned.
type Tuning string

const (
	// QuickStart leaves out the optimising compiler: a second less for each start.
	QuickStart Tuning = ""
	// Benchmark is the JVM as it is.
	Benchmark Tuning = "benchmark"
)

// ports of a cluster, chosen once: a node that is started again listens where it did.
type ports struct {
	rpc, http  []int // of the NameNodes
	datanodes  [][3]int
	journals   []int
	journalWeb []int
}

func choosePorts(o Options) (ports, error) {
	namenodes, journals := 1, 0
	if o.Layout == HighAvailability {
		namenodes, journals = 2, 3
	}
	free, err := FreePorts(2*namenodes + 3*o.Datanodes + 2*journals)
	if err != nil {
		return ports{}, err
	}
	take := func(n int) []int {
		var taken []int
		taken, free = free[:n], free[n:]
		return taken
	}
	p := ports{rpc: take(namenodes), http: take(namenodes), journals: take(journals), journalWeb: take(journals)}
	for range o.Datanodes {
		p.datanodes = append(p.datanodes, [3]int(take(3)))
	}
	return p, nil
}

func (c *Cluster) writeConf() error {
	for _, dir := range []string{c.ConfDir(), filepath.Join(c.dir, "log"), filepath.Join(c.dir, "data")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	core, hdfs := c.coreSite(), c.hdfsSite()
	maps.Copy(core, c.options.Properties)
	maps.Copy(hdfs, c.options.Properties)
	for name, text := range map[string]string{"core-site.xml": siteXML(core), "hdfs-site.xml": siteXML(hdfs), "log4j.properties": log4j} {
		if err := os.WriteFile(filepath.Join(c.ConfDir(), name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	return nil
}

func (c *Cluster) coreSite() map[string]string {
	user := currentUser()
	m := map[string]string{
		"fs.defaultFS":                               c.URI(),
		"hadoop.tmp.dir":                             filepath.Join(c.dir, "tmp"),
		"hadoop.http.staticuser.user":                user,
		"hadoop.proxyuser." + user + ".hosts":        "*",
		"hadoop.proxyuser." + user + ".groups":       "*",
		"ipc.client.connect.max.retries":             "50",
		"ipc.client.connect.retry.interval":          "200", // a DataNode that is up before its NameNode waits 5 s otherwise
		"hadoop.security.token.service.use_ip":       "true",
		"dfs.ha.automatic-failover.enabled":          "false",
		"hadoop.security.groups.negative-cache.secs": "0",
	}
	if kdc := c.options.Security; kdc != nil {
		m["hadoop.security.authentication"] = "kerberos"
		m["hadoop.security.authorization"] = "true"
		m["hadoop.security.auth_to_local"] = "RULE:[2:$1@$0](.*@" + kdc.Realm + ")s/.*/" + user + "/ DEFAULT"
	}
	return m
}

func (c *Cluster) hdfsSite() map[string]string {
	o := c.options
	m := map[string]string{
		"dfs.replication":                                      fmt.Sprint(o.Replication),
		"dfs.permissions.superusergroup":                       currentUser(),
		"dfs.namenode.safemode.extension":                      "0",
		"dfs.heartbeat.interval":                               "1",
		"dfs.namenode.heartbeat.recheck-interval":              "2000", // a DataNode counts as dead after 14 s
		"dfs.namenode.stale.datanode.interval":                 "5000",
		"dfs.namenode.datanode.registration.ip-hostname-check": "false",
		"dfs.namenode.fs-limits.min-block-size":                "1024",
		"dfs.namenode.accesstime.precision":                    "0",
		"dfs.datanode.hostname":                                "127.0.0.1",
		"dfs.namenode.edits.dir.minimum":                       "1",
	}
	if o.Layout == HighAvailability {
		var shared []string
		for _, port := range c.ports.journals {
			shared = append(shared, hostPort(port))
		}
		m["dfs.nameservices"] = o.Name
		m["dfs.ha.namenodes."+o.Name] = "nn1,nn2"
		m["dfs.client.failover.proxy.provider."+o.Name] = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
		m["dfs.ha.fencing.methods"] = "shell(/bin/true)"
		m["dfs.ha.tail-edits.period"] = "1"
		m["dfs.namenode.shared.edits.dir"] = "qjournal://" + strings.Join(shared, ";") + "/" + o.Name
		for i, nn := range []string{"nn1", "nn2"} {
			m["dfs.namenode.rpc-address."+o.Name+"."+nn] = hostPort(c.ports.rpc[i])
			m["dfs.namenode.http-address."+o.Name+"."+nn] = hostPort(c.ports.http[i])
			m["dfs.namenode.name.dir."+o.Name+"."+nn] = "file://" + c.dataDir(nn)
		}
	} else {
		m["dfs.namenode.rpc-address"] = hostPort(c.ports.rpc[0])
		m["dfs.namenode.http-address"] = hostPort(c.ports.http[0])
		m["dfs.namenode.name.dir"] = "file://" + c.dataDir("nn1")
	}
	if kdc := o.Security; kdc != nil {
		for _, daemon := range []struct{ key, principal string }{{"namenode", "nn"}, {"datanode", "dn"}} {
			m["dfs."+daemon.key+".kerberos.principal"] = daemon.principal + "/localhost@" + kdc.Realm
			m["dfs."+daemon.key+".keytab.file"] = kdc.Keytab
		}
		m["dfs.namenode.kerberos.principal.pattern"] = "*"
		m["dfs.web.authentication.kerberos.principal"] = "HTTP/localhost@" + kdc.Realm
		m["dfs.web.authentication.kerberos.keytab"] = kdc.Keytab
		m["dfs.block.access.token.enable"] = "true"
		m["dfs.data.transfer.protection"] = o.TransferProtection
		m["dfs.http.policy"] = "HTTP_ONLY"
		m["ignore.secure.ports.for.testing"] = "true" // DataNodes on ports above 1024, without TLS
	}
	return m
}

func siteXML(properties map[string]string) string {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?>\n<configuration>\n")
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		b.WriteString("  <property><name>" + name + "</name><value>")
		_ = xml.EscapeText(&b, []byte(properties[name])) // a strings.Builder does not fail
		b.WriteString("</value></property>\n")
	}
	b.WriteString("</configuration>\n")
	return b.String()
}

const log4j = `log4j.rootLogger=INFO,A
log4j.appender.A=org.apache.log4j.ConsoleAppender
log4j.appender.A.target=System.err
log4j.appender.A.layout=org.apache.log4j.PatternLayout
log4j.appender.A.layout.ConversionPattern=%d{ISO8601} %p %c{1}: %m%n
log4j.logger.org.apache.hadoop.hdfs.StateChange=WARN
log4j.logger.BlockStateChange=WARN
log4j.logger.org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit=WARN
log4j.logger.org.apache.hadoop.hdfs.server.datanode.DataNode.clienttrace=WARN
log4j.logger.org.apache.hadoop.hdfs.server.datanode.DataNode=WARN
`

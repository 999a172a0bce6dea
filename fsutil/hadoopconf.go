package fsutil

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// defaultNamenodePort is HdfsClientConfigKeys.DFS_NAMENODE_RPC_PORT_DEFAULT.
const defaultNamenodePort = "8020"

// hadoopConf holds the properties of Hadoop's configuration files. It resolves one nameservice at a time: the addresses
// of two nameservices never meet, for a client that has both fails over from one cluster into the other.
// Source: Hadoop 3.3 Configuration, DFSUtilClient.getAddresses, HAUtilClient.
type hadoopConf map[string]string

// loadHadoopConf reads core-site.xml and hdfs-site.xml, the later one winning. dir "" is no configuration.
func loadHadoopConf(dir string) (hadoopConf, error) {
	conf := hadoopConf{}
	if dir == "" {
		return conf, nil
	}
	found := false
	for _, name := range []string{"core-site.xml", "hdfs-site.xml"} {
		err := conf.load(filepath.Join(dir, name), 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = true
	}
	if !found {
		return nil, fmt.Errorf("read the Hadoop configuration: neither core-site.xml nor hdfs-site.xml is in %s (HADOOP_CONF_DIR): %w", dir, fs.ErrNotExist)
	}
	return conf, nil
}

// load adds one file's properties. Files that it includes (xi:include) come first, as they stand first in practice.
func (c hadoopConf) load(file string, depth int) error {
	if depth > 5 {
		return fmt.Errorf("read %s: included more than 5 levels deep", file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the Hadoop configuration: %w", err)
	}
	var site struct {
		Include []struct {
			Href string `xml:"href,attr"`
		} `xml:"http://www.w3.org/2001/XInclude include"`
		Property []struct {
			Name  string `xml:"name"`
			Value string `xml:"value"`
		} `xml:"property"`
	}
	if err := xml.Unmarshal(text, &site); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	for _, inc := range site.Include {
		name := inc.Href
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(file), name)
		}
		if err := c.load(name, depth+1); err != nil {
			return err
		}
	}
	for _, p := range site.Property {
		c[strings.TrimSpace(p.Name)] = strings.TrimSpace(p.Value)
	}
	return nil
}

var variable = regexp.MustCompile(`\$\{[^}$ ]+\}`)

// get is a property's value with ${name} replaced by that property, and ${env.NAME} by the environment's.
func (c hadoopConf) get(key string) string {
	value := c[key]
	for range 20 { // Configuration.MAX_SUBST
		next := variable.ReplaceAllStringFunc(value, func(ref string) string {
			name := ref[2 : len(ref)-1]
			if env, ok := strings.CutPrefix(name, "env."); ok {
				return os.Getenv(env)
			}
			if v, ok := c[name]; ok {
				return v
			}
			return ref
		})
		if next == value {
			break
		}
		value = next
	}
	return value
}

// list is a comma-separated value, without blanks and empty elements.
func (c hadoopConf) list(key string) []string {
	return strings.FieldsFunc(c.get(key), func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}

func (c hadoopConf) isTrue(key string) bool { return strings.EqualFold(c.get(key), "true") }

// nameservices are those that the configuration names, sorted.
func (c hadoopConf) nameservices() []string {
	return slices.Sorted(slices.Values(c.list("dfs.nameservices")))
}

// defaultAuthority is that of fs.defaultFS: what hdfs:///path means.
func (c hadoopConf) defaultAuthority() (string, error) {
	value := c.get("fs.defaultFS")
	if value == "" {
		value = c.get("fs.default.name") // its name before Hadoop 2
	}
	if value == "" {
		return "", errors.New("the URI names no host or nameservice, and no fs.defaultFS is configured (HADOOP_CONF_DIR)")
	}
	u, err := url.Parse(value)
	switch {
	case err != nil:
		return "", fmt.Errorf("fs.defaultFS: %w", err)
	case u.Scheme == "viewfs":
		return "", fmt.Errorf("fs.defaultFS is %s, and viewfs mounts are not resolved: write the hdfs:// URI of the nameservice behind the mount: %w", value, ErrUnsupported)
	case u.Scheme != "hdfs" || u.Host == "":
		return "", fmt.Errorf("fs.defaultFS is %s, which names no HDFS: write hdfs://HOST:PORT/… or hdfs://NAMESERVICE/…", value)
	}
	return u.Host, nil
}

// namenodes are the RPC addresses, host:port, of a URI's authority: those of exactly that nameservice, in the order of
// the configuration, or the one host that it names. explicit wins over the configuration.
func (c hadoopConf) namenodes(authority string, explicit map[string][]string) ([]string, error) {
	if addrs := explicit[authority]; len(addrs) > 0 {
		return withPorts(addrs)
	}
	if slices.Contains(c.nameservices(), authority) || c.get("dfs.ha.namenodes."+authority) != "" {
		return c.nameserviceAddresses(authority)
	}
	host, _, err := net.SplitHostPort(authority)
	if err == nil {
		return []string{authority}, checkHost(host, authority)
	}
	if _, err := netip.ParseAddr(strings.Trim(authority, "[]")); err == nil || authority == "localhost" || strings.Contains(authority, ".") {
		return []string{net.JoinHostPort(strings.Trim(authority, "[]"), defaultNamenodePort)}, nil
	}
	known := append(c.nameservices(), slices.Sorted(maps.Keys(explicit))...)
	names := "none is"
	if len(known) > 0 {
		names = "configured: " + strings.Join(known, ", ")
	}
	return nil, fmt.Errorf("nameservice %q is not configured (%s): name its namenodes (--namenodes %s=HOST:PORT,HOST:PORT) or a Hadoop configuration (--hadoop-conf DIR, HADOOP_CONF_DIR); if it is a host, write %s:%s", authority, names, authority, authority, defaultNamenodePort)
}

func (c hadoopConf) nameserviceAddresses(ns string) ([]string, error) {
	nodes := c.list("dfs.ha.namenodes." + ns)
	if len(nodes) == 0 { // a federated nameservice with one namenode
		addr := c.get("dfs.namenode.rpc-address." + ns)
		if addr == "" && len(c.nameservices()) == 1 {
			addr = c.get("dfs.namenode.rpc-address")
		}
		if addr == "" {
			return nil, fmt.Errorf("nameservice %q has neither dfs.ha.namenodes.%s nor dfs.namenode.rpc-address.%s in the Hadoop configuration", ns, ns, ns)
		}
		return withPorts([]string{addr})
	}
	var addrs []string
	for _, nn := range nodes {
		key := "dfs.namenode.rpc-address." + ns + "." + nn
		addr := c.get(key)
		if addr == "" {
			return nil, fmt.Errorf("nameservice %q lists namenode %q, but %s is not in the Hadoop configuration", ns, nn, key)
		}
		addrs = append(addrs, addr)
	}
	return withPorts(addrs)
}

func withPorts(addrs []string) ([]string, error) {
	out := make([]string, 0, len(addrs))
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			host, port = strings.Trim(addr, "[]"), defaultNamenodePort
		}
		if err := checkHost(host, addr); err != nil {
			return nil, err
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return nil, fmt.Errorf("namenode address %q: the port is no number", addr)
		}
		out = append(out, net.JoinHostPort(host, port))
	}
	return out, nil
}

func checkHost(host, addr string) error {
	if host == "" || strings.ContainsAny(host, "/@ ") {
		return fmt.Errorf("namenode address %q: no host in it", addr)
	}
	return nil
}

// refuseTransferProtection refuses wire modes in which the client library cannot read: it loses bytes of each message
// of SASL integrity and privacy (measured: every read and every checksum fails). AES encryption (dfs.encrypt.data.
// transfer) takes another way and works.
func (c hadoopConf) refuseTransferProtection() error {
	if c.isTrue("dfs.encrypt.data.transfer") {
		return nil
	}
	for _, mode := range c.list("dfs.data.transfer.protection") {
		if mode = strings.ToLower(mode); mode == "integrity" || mode == "privacy" {
			return fmt.Errorf("dfs.data.transfer.protection is %q, and datanodes can't be read with %s: what works is dfs.data.transfer.protection=authentication, and dfs.encrypt.data.transfer=true with dfs.encrypt.data.transfer.cipher.suites=AES/CTR/NoPadding: %w",
				c.get("dfs.data.transfer.protection"), mode, ErrUnsupported)
		}
	}
	return nil
}

// umask is fs.permissions.umask-mode, octal or symbolic; the default for what we can't read.
func (c hadoopConf) umask() uint32 {
	if v, err := strconv.ParseUint(c.get("fs.permissions.umask-mode"), 8, 32); err == nil && v <= 0o777 {
		return uint32(v)
	}
	return 0o022
}

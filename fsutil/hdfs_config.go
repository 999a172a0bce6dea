package fsutil

import (
	"fmt"
	"os"
	"os/user"
	"time"
)

// HDFSConfig says how HDFS clusters are reached. The zero value reads HADOOP_CONF_DIR and HADOOP_USER_NAME, as
// Hadoop's own client does.
type HDFSConfig struct {
	// ConfDir holds core-site.xml and hdfs-site.xml. The environment's HADOOP_CONF_DIR when empty; none when that is
	// empty too: then every cluster is named by host and port, or in Namenodes.
	ConfDir string
	// User is who writes and reads on clusters without Kerberos. HADOOP_USER_NAME, then the user of the process, when
	// empty.
	User string
	// Namenodes are the RPC addresses (host:port) of nameservices, and win over ConfDir's: a cluster that the
	// configuration of this side does not know, or knows under another name.
	Namenodes map[string][]string
	// Kerberos is who we are on clusters that ask for it.
	Kerberos KerberosConfig
	// Clients is how many connections a cluster's namenode gets; each carries one call at a time. 4 when 0.
	Clients int
	// DialTimeout bounds a TCP connection. 5 s when 0.
	DialTimeout time.Duration
	// IdleTimeout bounds the silence of a namenode or datanode that owes an answer. 20 s when 0.
	IdleTimeout time.Duration
	// RetryFor is how long a call is repeated while the namenode is away, in safe mode or standby. 40 s when 0. A
	// call ends within RetryFor + IdleTimeout.
	RetryFor time.Duration
}

// KerberosConfig is a principal with its keytab. The zero value is no Kerberos.
type KerberosConfig struct {
	Principal  string // "agent@REALM" or "agent/host@REALM"; the realm of krb5.conf when it names none
	KeytabFile string
	Krb5Conf   string // file; /etc/krb5.conf when empty
	// NamenodePrincipal is the namenode's ("nn/_HOST"), where the Hadoop configuration does not say it.
	NamenodePrincipal string
}

func (c HDFSConfig) withDefaults() HDFSConfig {
	if c.ConfDir == "" {
		c.ConfDir = os.Getenv("HADOOP_CONF_DIR")
	}
	if c.User == "" {
		c.User = os.Getenv("HADOOP_USER_NAME")
	}
	if c.Clients <= 0 {
		c.Clients = 4
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.IdleTimeout <= 0 {
		c.IdleTimeout = 20 * time.Second
	}
	if c.RetryFor <= 0 {
		c.RetryFor = 40 * time.Second
	}
	if c.Kerberos.Krb5Conf == "" {
		c.Kerberos.Krb5Conf = "/etc/krb5.conf"
	}
	return c
}

// hdfsUser is who we are without Kerberos.
func (c HDFSConfig) hdfsUser() (string, error) {
	if c.User != "" {
		return c.User, nil
	}
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find the user's name (HADOOP_USER_NAME sets it): %w", err)
	}
	return u.Username, nil
}

package fsutil

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"github.com/colinmarc/hdfs/v2/hadoopconf"
	krb "github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"google.golang.org/protobuf/proto"
)

var errClosed = fmt.Errorf("the connection to HDFS was closed here: %w", fs.ErrClosed)

const (
	readAheadBytes = 64 << 10 // of a datanode that a file is read from: a packet
	ackAheadBytes  = 1 << 10  // of a datanode that a file is written to
	rpcAheadBytes  = 4 << 10  // of a namenode
)

// cluster is one HDFS: the namenodes of one nameservice, and clients on them. Safe for concurrent use.
type cluster struct {
	cfg     HDFSConfig
	name    string // authority of its URIs
	options hdfs.ClientOptions
	umask   uint32
	kerb    *krb.Client // nil without Kerberos
	slots   []*slot
	paths   pathTable
	avoid   avoidList
	reached atomic.Bool // a namenode has answered once

	calls  sync.WaitGroup // calls under way, also those that nobody waits for any more
	mu     sync.Mutex
	closed bool
}

// slot is a place for one client, made when it is first needed.
type slot struct {
	busy   atomic.Int32 // calls under way or waiting
	failed atomic.Int64 // when its connection failed last, Unix nanoseconds

	making sync.Mutex // held while the client is made
	conns  atomic.Pointer[connSet]
	m      atomic.Pointer[member]
}

// member is one client: one connection to the active namenode, one call at a time, one lease holder. The client renews
// its lease every second until close.
type member struct {
	base     *hdfs.Client // idle: only views of it are used
	name     string       // lease holder
	namenode executor
	defaults hdfs.ServerDefaults
	conns    *connSet
	sasl     bool // datanodes want a handshake

	key atomic.Pointer[transferKey] // nil: not asked for yet
}

type transferKey struct {
	key   proto.Message // DataEncryptionKeyProto
	until time.Time
}

// keyFor is how long a data encryption key is used. Its life is 10 hours by default; the client would keep it for ever.
const keyFor = time.Hour

// view is a client for one open file, which connects to datanodes by dial. It may ask the namenode.
func (m *member) view(dial dialFunc) (*hdfs.Client, error) {
	if !m.sasl {
		return viewOf(m.base, dial, nil), nil
	}
	if k := m.key.Load(); k != nil && time.Now().Before(k.until) {
		return viewOf(m.base, dial, k.key), nil
	}
	resp, err := m.ask("getDataEncryptionKey", "GetDataEncryptionKey", nil)
	if err != nil {
		return nil, err
	}
	// Without wire encryption there is none: an empty one keeps the client from asking at each connection.
	k := &transferKey{newProto("DataEncryptionKeyProto", nil), time.Now().Add(keyFor)}
	if hasProtoField(resp, "dataEncryptionKey") {
		k.key = protoMessage(resp, "dataEncryptionKey")
	}
	m.key.Store(k)
	return viewOf(m.base, dial, k.key), nil
}

// dropKeys makes the next views ask for their key: a datanode may have refused the one that is kept.
func (c *cluster) dropKeys() {
	for _, m := range c.members() {
		m.key.Store(nil)
	}
}

// members are the clients there are.
func (c *cluster) members() []*member {
	var members []*member
	for _, s := range c.slots {
		if m := s.m.Load(); m != nil {
			members = append(members, m)
		}
	}
	return members
}

func newCluster(authority string, addrs []string, conf hadoopConf, cfg HDFSConfig) (*cluster, error) {
	if err := checkClientShape(); err != nil {
		return nil, err
	}
	if err := conf.refuseTransferProtection(); err != nil {
		return nil, err
	}
	c := &cluster{cfg: cfg, name: authority, umask: conf.umask()}
	for range cfg.Clients {
		c.slots = append(c.slots, &slot{})
	}
	forClient := hadoopconf.HadoopConf{}
	for key := range conf {
		if !strings.HasPrefix(key, "dfs.namenode.rpc-address") && !strings.HasPrefix(key, "fs.default") {
			forClient[key] = conf.get(key)
		}
	}
	c.options = hdfs.ClientOptionsFromConf(forClient)
	c.options.Addresses = addrs
	secure := c.options.KerberosClient != nil || cfg.Kerberos.Principal != ""
	c.options.KerberosClient = nil
	if !secure {
		user, err := cfg.hdfsUser()
		if err != nil {
			return nil, err
		}
		c.options.User = user
		return c, nil
	}
	return c, c.login()
}

// login makes the Kerberos client. Tickets are renewed by it, from the keytab.
func (c *cluster) login() error {
	k := c.cfg.Kerberos
	if k.Principal == "" || k.KeytabFile == "" {
		return fmt.Errorf("the cluster asks for Kerberos (hadoop.security.authentication): name a principal and its keytab: %w", fs.ErrPermission)
	}
	if k.NamenodePrincipal != "" {
		c.options.KerberosServicePrincipleName, _, _ = strings.Cut(k.NamenodePrincipal, "@")
	}
	if c.options.KerberosServicePrincipleName == "" {
		return errors.New("Kerberos: the namenode's principal is not known: dfs.namenode.kerberos.principal is not in the Hadoop configuration")
	}
	krb5, err := config.Load(k.Krb5Conf)
	if err != nil {
		return fmt.Errorf("read %s: %w", k.Krb5Conf, err)
	}
	keys, err := keytab.Load(k.KeytabFile)
	if err != nil {
		return fmt.Errorf("read the keytab %s: %w", k.KeytabFile, err)
	}
	user, realm, _ := strings.Cut(k.Principal, "@")
	if realm == "" {
		realm = krb5.LibDefaults.DefaultRealm
	}
	c.kerb = krb.NewWithKeytab(user, realm, keys, krb5, krb.DisablePAFXFAST(true))
	if err := c.kerb.Login(); err != nil {
		return fmt.Errorf("log in to Kerberos as %s with %s: %w: %w", k.Principal, k.KeytabFile, err, fs.ErrPermission)
	}
	c.options.KerberosClient = c.kerb
	return nil
}

// connect makes a client. Nobody else uses it yet, so the races of its first call (server defaults) can't happen.
func (c *cluster) connect(conns *connSet) (*member, error) {
	o := c.options
	o.NamenodeDialFunc = conns.dialer(context.Background()) // ended by conns.closeAll
	base, err := hdfs.NewClient(o)
	if err != nil {
		conns.closeAll()
		return nil, c.explainConnect(err)
	}
	m := &member{base: base, name: base.Name(), namenode: namenodeOf(base), conns: conns}
	if m.defaults, err = base.ServerDefaults(); err != nil {
		m.close()
		return nil, c.explainConnect(err)
	}
	m.sasl = o.DataTransferProtection != "" || m.defaults.EncryptDataTransfer
	c.reached.Store(true)
	return m, nil
}

// explainConnect says what an answer out of order means at the start of a connection: the namenode wants Kerberos and
// tells it in a way that the client does not understand.
func (c *cluster) explainConnect(err error) error {
	if c.kerb == nil && strings.Contains(err.Error(), "unexpected sequence number") {
		return fmt.Errorf("the namenode refuses to talk without Kerberos (%w): name a principal and its keytab: %w", err, fs.ErrPermission)
	}
	return err
}

func (m *member) close() {
	m.conns.closeAll() // a call that waits for a frozen namenode ends, and Close with it
	_ = m.base.Close() // its connection is closed already
}

// client is the slot's client, made when there is none.
func (s *slot) client(c *cluster) (*member, error) {
	if m := s.m.Load(); m != nil {
		return m, nil
	}
	s.making.Lock()
	defer s.making.Unlock()
	if m := s.m.Load(); m != nil {
		return m, nil
	}
	conns := &connSet{dial: net.Dialer{Timeout: c.cfg.DialTimeout}, idle: c.cfg.IdleTimeout, buffer: rpcAheadBytes}
	s.conns.Store(conns) // close finds it, also while a frozen namenode keeps connect waiting
	if c.isClosed() {
		return nil, errClosed
	}
	m, err := c.connect(conns)
	if err != nil {
		return nil, err
	}
	s.m.Store(m)
	return m, nil
}

func (c *cluster) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// begin counts a call unless the cluster is closed.
func (c *cluster) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.calls.Add(1)
	return nil
}

// close ends all connections and waits for the calls under way. Idempotent.
func (c *cluster) close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.mu.Unlock()
	for _, s := range c.slots {
		if conns := s.conns.Load(); conns != nil {
			conns.closeAll()
		}
	}
	c.calls.Wait() // they end, now that nothing answers them
	for _, m := range c.members() {
		m.close()
	}
	if c.kerb != nil {
		c.kerb.Destroy()
	}
}

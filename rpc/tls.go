package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// TLS names the files of an agent's or a person's certificate. Both sides of every connection show one, and both must
// be signed by the CA. An agent looks at the files at each new connection and takes over what changed; connections
// that are open go on. A file that does not fit the others, because it is being replaced, changes nothing yet.
type TLS struct {
	CertFile string // PEM, the certificate and those between it and the CA
	KeyFile  string // PEM
	CAFile   string // PEM, one or more

	moved *atomic.Pointer[TLS] // what is read instead; nil: it never moves
}

// Movable is the same files, which Move may replace with others while they are in use. Copies of it move with it.
func (t TLS) Movable() TLS {
	t.moved = &atomic.Pointer[TLS]{}
	return t
}

// Move has everything that uses these files use others from the next connection on, as if the files had changed: other
// files that don't fit each other are logged, and the old certificate is used on. Only for what Movable returned.
func (t TLS) Move(to TLS) { t.moved.Store(&to) }

// files are the ones to be read now.
func (t TLS) files() TLS {
	if t.moved != nil {
		if to := t.moved.Load(); to != nil {
			return *to
		}
	}
	return t
}

// material is what the three files held.
type material struct {
	cert tls.Certificate
	pool *x509.CertPool
}

// certificates keeps the material of the files as they are now.
type certificates struct {
	files TLS
	log   *slog.Logger

	mu     sync.Mutex
	now    material
	seen   [3]os.FileInfo // of which now was made
	failed [3]os.FileInfo // of which nothing could be made; it was logged
}

// loadCertificates reads the files, which must fit now.
func loadCertificates(files TLS, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log}
	seen, err := c.look()
	if err != nil {
		return nil, err
	}
	if c.now, err = files.load(); err != nil {
		return nil, err
	}
	c.seen = seen
	return c, nil
}

func (t TLS) load() (material, error) {
	t = t.files()
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return material{}, fmt.Errorf("load the certificate %s with the key %s: %w", t.CertFile, t.KeyFile, err)
	}
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return material{}, fmt.Errorf("load the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return material{}, fmt.Errorf("load the CA: %s holds no PEM certificate", t.CAFile)
	}
	return material{cert: cert, pool: pool}, nil
}

func (c *certificates) look() (seen [3]os.FileInfo, err error) {
	files := c.files.files()
	for i, file := range []string{files.CertFile, files.KeyFile, files.CAFile} {
		if seen[i], err = os.Stat(file); err != nil {
			return seen, fmt.Errorf("load TLS files: %w", err)
		}
	}
	return seen, nil
}

// current is the newest material that fitted together.
func (c *certificates) current() material {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, err := c.look()
	if err == nil && same(seen, c.seen) || err == nil && same(seen, c.failed) {
		return c.now
	}
	var fresh material
	if err == nil {
		fresh, err = c.files.load()
	}
	if err != nil {
		if !same(seen, c.failed) {
			c.log.Warn("certificate files changed and can't be used, going on with the old ones", "err", err)
		}
		c.failed = seen
		return c.now
	}
	c.log.Info("certificate files changed, using the new ones for new connections", "cert_file", c.files.files().CertFile)
	c.now, c.seen, c.failed = fresh, seen, [3]os.FileInfo{}
	return c.now
}

// same says whether the files are the same and unchanged.
func same(a, b [3]os.FileInfo) bool {
	for i := range a {
		switch {
		case (a[i] == nil) != (b[i] == nil):
			return false
		case a[i] == nil:
		case !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size():
			return false
		}
	}
	return true
}

// server is the configuration of a listener. check, which may be nil, looks at the caller's certificate.
func (c *certificates) server(check func(*x509.Certificate) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := c.current()
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				Certificates: []tls.Certificate{now.cert},
				ClientCAs:    now.pool,
				ClientAuth:   tls.RequireAndVerifyClientCert,
				// A resumed session would not look at a CA that was replaced.
				SessionTicketsDisabled: true,
				VerifyConnection:       func(s tls.ConnectionState) error { return checkLeaf(s, check) },
			}, nil
		},
	}
}

// agentClient is the configuration for calling an agent. Who an agent is stands in its certificate and check compares
// it; the name of its host is not compared, since agents move and are reached through proxies.
func (c *certificates) agentClient(check func(*x509.Certificate) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := c.current().cert
			return &cert, nil
		},
		InsecureSkipVerify: true, // VerifyConnection verifies, against the CA as it is now
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("the other side showed no certificate")
			}
			between := x509.NewCertPool()
			for _, cert := range s.PeerCertificates[1:] {
				between.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: c.current().pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
			if err != nil {
				return err
			}
			return checkLeaf(s, check)
		},
	}
}

func checkLeaf(s tls.ConnectionState, check func(*x509.Certificate) error) error {
	if check == nil || len(s.PeerCertificates) == 0 {
		return nil // who must show a certificate is decided elsewhere
	}
	return check(s.PeerCertificates[0])
}

// RaftTLS is what the Raft transport of a group needs: both sides must be agents of the given datacenter. log says
// when files were reloaded; nil discards.
func (t TLS) RaftTLS(datacenter string, log *slog.Logger) (server, client *tls.Config, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := loadCertificates(t, log)
	if err != nil {
		return nil, nil, err
	}
	check := mustBeAgentOf(datacenter)
	return c.server(check), c.agentClient(check), nil
}

// person is the configuration for calling an agent's API: the certificate must be for the host that was called.
func (t TLS) person() (*tls.Config, error) {
	now, err := t.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{now.cert}, RootCAs: now.pool}, nil
}

// logsHandshakes tells the log why a connection was refused, which gRPC keeps to itself.
type logsHandshakes struct {
	credentials.TransportCredentials
	log  *slog.Logger
	told *seldom
}

// withoutDigits is what an error says, but for times and numbers: those differ each time.
func withoutDigits(err error) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
}

// toldEvery is how often the refusals of one host for one reason are told: a peer with a wrong certificate tries again
// each second.
const toldEvery = time.Minute

// seldom remembers when something was told, and how often it was not since.
type seldom struct {
	mu   sync.Mutex
	last map[string]*lastTold
}

type lastTold struct {
	at     time.Time
	untold int
}

func newSeldom() *seldom { return &seldom{last: map[string]*lastTold{}} }

// toldMost bounds how much is remembered.
const toldMost = 1000

// due says whether something is to be told now, and how often it was not since the last time.
func (s *seldom) due(what string, now time.Time) (untold int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.last[what]
	switch {
	case last == nil && len(s.last) >= toldMost:
		maps.DeleteFunc(s.last, func(_ string, l *lastTold) bool { return now.Sub(l.at) >= toldEvery })
		if len(s.last) >= toldMost {
			return 0, false
		}
	case last != nil && now.Sub(last.at) < toldEvery:
		last.untold++
		return 0, false
	case last != nil:
		untold = last.untold
	}
	s.last[what] = &lastTold{at: now}
	return untold, true
}

// ServerHandshake implements credentials.TransportCredentials.
func (l logsHandshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := l.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		host := raw.RemoteAddr().String()
		if name, _, cut := net.SplitHostPort(host); cut == nil {
			host = name
		}
		if untold, due := l.told.due(host+" "+withoutDigits(err), time.Now()); due {
			l.log.Warn("refused a connection", "from", raw.RemoteAddr(), "err", err, "more_since_the_last_line", untold)
		}
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (l logsHandshakes) Clone() credentials.TransportCredentials {
	return logsHandshakes{l.TransportCredentials.Clone(), l.log, l.told}
}

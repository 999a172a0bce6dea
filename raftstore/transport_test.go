package raftstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// authority signs the certificates of one group.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	a.cert, a.key = certificate(t, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "group"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.pool.AddCert(a.cert)
	return a
}

func certificate(t *testing.T, by *authority, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}

// voter is the TLS of a node that this authority has let in, on 127.0.0.1.
func (a *authority) voter(t *testing.T) *TLS {
	t.Helper()
	cert, key := certificate(t, a, &x509.Certificate{
		Subject: pkix.Name{CommonName: "voter"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	own := []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	return &TLS{
		Server: &tls.Config{Certificates: own, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool, MinVersion: tls.VersionTLS13},
		Client: &tls.Config{Certificates: own, RootCAs: a.pool, MinVersion: tls.VersionTLS13},
	}
}

// network is three voters on disk and loopback; nil is plain TCP.
func network(t *testing.T, encrypted func(id string) *TLS) *group {
	t.Helper()
	var peers []Peer
	for _, id := range []string{"a", "b", "c"} {
		peers = append(peers, Peer{ID: id, Addr: freeAddress(t)})
	}
	g := &group{stores: map[string]*Store{}}
	for _, p := range peers {
		cfg := Config{Group: "dc2", ID: p.ID, Dir: t.TempDir(), Peers: peers, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
		if encrypted != nil {
			cfg.TLS = encrypted(p.ID)
		}
		s, err := open(cfg, patient)
		if err != nil {
			t.Fatal(err)
		}
		g.stores[p.ID] = s
	}
	return g
}

// whoeverLeads does something at the leader, again while a busy machine loses one: then nobody can say whether it is done.
func (g *group) whoeverLeads(t *testing.T, what string, do func(leader *Store) error) {
	t.Helper()
	waitUntil(t, what, func() bool {
		for _, s := range g.stores {
			if s.Role() != "leader" {
				continue
			}
			err := do(s)
			if err != nil && !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNotLeader) {
				t.Fatalf("%s: %v", what, err)
			}
			return err == nil
		}
		return false
	})
}

// patient is quick for a real network on a busy machine.
func patient(c *raft.Config) {
	quick(c)
	c.HeartbeatTimeout, c.ElectionTimeout = 300*time.Millisecond, 300*time.Millisecond
}

func TestThreeVotersAgreeOverTLS(t *testing.T) {
	ours := newAuthority(t)
	g := network(t, func(string) *TLS { return ours.voter(t) })
	defer g.close(t)
	leader := g.leader(t)
	if err := g.stores[leader].Propose(t.Context(), putRoute(routeProd())); err != nil {
		t.Fatal(err)
	}
	for _, s := range g.stores {
		waitFor(t, s, func(v View) bool { _, ok := v.Route("prod"); return ok })
	}
	var addr string
	for _, p := range g.stores[leader].Peers() {
		if p.ID == leader {
			addr = p.Addr
		}
	}
	for name, stranger := range map[string]*tls.Config{
		"without a certificate":            {RootCAs: ours.pool, MinVersion: tls.VersionTLS13},
		"with another group's certificate": {RootCAs: ours.pool, Certificates: newAuthority(t).voter(t).Client.Certificates, MinVersion: tls.VersionTLS13},
	} {
		if answer := ask(t, addr, stranger); answer == nil {
			t.Errorf("a stranger %s is let in", name)
		} else {
			t.Logf("a stranger %s: %v", name, answer)
		}
	}
	if err := ask(t, addr, ours.voter(t).Client); err != nil {
		t.Errorf("a voter is not let in, so the strangers prove nothing: %v", err)
	}
}

// ask sends a Raft request with a certificate of its own, and returns nil if the node answers it.
func ask(t *testing.T, addr string, cfg *tls.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is kept of it
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{0, 0x80}); err != nil { // an AppendEntries that is an empty map
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// waitFor returns when a node has applied what it waits for.
func waitFor(t *testing.T, s *Store, until func(View) bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		changed := s.Changed()
		if until(s.View()) {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatal("the state doesn't come")
		}
	}
}

func TestVoterOfAnotherAuthorityIsNotElected(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	g := network(t, func(id string) *TLS {
		if id == "c" {
			return theirs.voter(t)
		}
		return ours.voter(t)
	})
	defer g.close(t)
	leader := g.leader(t)
	if leader == "c" {
		t.Fatal("the stranger leads")
	}
	if err := g.stores[leader].Propose(t.Context(), putRoute(routeProd())); err != nil {
		t.Fatal(err)
	}
	if routes := g.stores["c"].View().Routes(); len(routes) != 0 {
		t.Errorf("the stranger knows %v", routes)
	}
}

func TestTLSThatLetsInAStrangerIsRefused(t *testing.T) {
	verify := func(tls.ConnectionState) error { return nil }
	for name, tc := range map[string]struct {
		change func(*TLS)
		ok     bool
	}{
		"as it should be":                     {func(*TLS) {}, true},
		"without a server side":               {func(c *TLS) { c.Server = nil }, false},
		"without a client side":               {func(c *TLS) { c.Client = nil }, false},
		"asks for no certificate":             {func(c *TLS) { c.Server.ClientAuth = tls.NoClientCert }, false},
		"verifies a certificate if there is":  {func(c *TLS) { c.Server.ClientAuth = tls.VerifyClientCertIfGiven }, false},
		"takes any certificate":               {func(c *TLS) { c.Server.ClientAuth = tls.RequireAnyClientCert }, false},
		"takes any certificate and looks":     {func(c *TLS) { c.Server.ClientAuth, c.Server.VerifyConnection = tls.RequireAnyClientCert, verify }, true},
		"calls anybody":                       {func(c *TLS) { c.Client.InsecureSkipVerify = true }, false},
		"calls anybody and looks":             {func(c *TLS) { c.Client.InsecureSkipVerify, c.Client.VerifyConnection = true, verify }, true},
		"decides for each caller what to ask": {func(c *TLS) { *c.Server = tls.Config{GetConfigForClient: give(c.Server.Clone())} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := alone(t.TempDir()) // a voter alone has no network, and is told all the same
			cfg.TLS = newAuthority(t).voter(t)
			tc.change(cfg.TLS)
			s, err := openFast(cfg)
			if err == nil {
				err = s.Close()
			}
			if errors.Is(err, ErrInvalid) == tc.ok || (tc.ok && err != nil) {
				t.Errorf("Open = %v, want it to be fine: %t", err, tc.ok)
			}
		})
	}
}

func give(c *tls.Config) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	return func(*tls.ClientHelloInfo) (*tls.Config, error) { return c, nil }
}

// TestCallerWithoutACertificateIsRefusedWhateverTheConfigurationSays is for a GetConfigForClient, which valid can't see into.
func TestCallerWithoutACertificateIsRefusedWhateverTheConfigurationSays(t *testing.T) {
	ours := newAuthority(t).voter(t)
	lax := ours.Server.Clone()
	lax.ClientAuth = tls.NoClientCert
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := newStreams(listener, "127.0.0.1:7072", &TLS{Server: &tls.Config{GetConfigForClient: give(lax)}, Client: ours.Client})
	defer func() { _ = own.Close() }() // the test is over
	if own.Addr().String() != "127.0.0.1:7072" || own.Addr().Network() != "tcp" {
		t.Errorf("says that it is at %s", own.Addr())
	}
	for _, certificates := range [][]tls.Certificate{nil, ours.Client.Certificates} {
		caller := ours.Client.Clone()
		caller.Certificates = certificates
		go func() {
			if conn, err := (&tls.Dialer{Config: caller}).Dial("tcp", listener.Addr().String()); err == nil {
				_, _ = conn.Write([]byte("x"))   // the server's read tells
				_, _ = io.Copy(io.Discard, conn) // until it hangs up
				_ = conn.Close()
			}
		}()
		conn, err := own.Accept()
		if err != nil {
			t.Fatal(err)
		}
		// Nobody asked for a certificate, so neither shows one.
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes of a caller without a certificate", n)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes at the second try", n)
		}
		_ = conn.Close()
	}
}

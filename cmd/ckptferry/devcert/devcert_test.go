package devcert

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"
)

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func load(t *testing.T, p Pair) tls.Certificate {
	t.Helper()
	cert, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// handshake connects a client to a server, each with its certificate and the CA that it trusts. It returns the
// certificate that the server saw, the client's error and the server's.
func handshake(t *testing.T, server, client tls.Certificate, trust *CA) (seen *x509.Certificate, cerr, serr error) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(trust.Cert) {
		t.Fatal("the CA's certificate doesn't parse")
	}
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	s := tls.Server(left, &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	c := tls.Client(right, &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: pool, ServerName: "127.0.0.1"})
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err != nil {
			_ = left.Close()
		}
		done <- err
	}()
	cerr = c.Handshake()
	if cerr == nil {
		go func() { _, _ = c.Read(make([]byte, 1)) }() // takes what the server still sends
	} else {
		_ = right.Close()
	}
	serr = <-done
	if certs := s.ConnectionState().PeerCertificates; len(certs) > 0 {
		seen = certs[0]
	}
	return seen, cerr, serr
}

func TestAgentsTalkToEachOtherOverMutualTLS(t *testing.T) {
	ca := newCA(t)
	a, err := ca.Agent("dc1", "dc1-a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.Agent("dc2", "dc2-a")
	if err != nil {
		t.Fatal(err)
	}
	seen, cerr, serr := handshake(t, load(t, a), load(t, b), ca)
	if cerr != nil || serr != nil {
		t.Fatalf("client: %v, server: %v", cerr, serr)
	}
	if len(seen.URIs) != 1 || seen.URIs[0].String() != "ckptferry://dc2/dc2-a" {
		t.Errorf("the server saw the names %v, want ckptferry://dc2/dc2-a", seen.URIs)
	}
}

func TestAClientsRoleIsItsUnitAndItCanBeNoServer(t *testing.T) {
	ca := newCA(t)
	agent, err := ca.Agent("dc1", "dc1-a")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := ca.Client("admin", "admin")
	if err != nil {
		t.Fatal(err)
	}
	seen, cerr, serr := handshake(t, load(t, agent), load(t, admin), ca)
	if cerr != nil || serr != nil {
		t.Fatalf("client: %v, server: %v", cerr, serr)
	}
	if got := seen.Subject.OrganizationalUnit; len(got) != 1 || got[0] != "admin" {
		t.Errorf("unit %v, want admin", got)
	}
	if _, cerr, _ := handshake(t, load(t, admin), load(t, agent), ca); cerr == nil {
		t.Error("a client's certificate was accepted as a server's")
	}
}

func TestCertificatesOfAnotherCAAreRefused(t *testing.T) {
	ours, theirs := newCA(t), newCA(t)
	agent, err := ours.Agent("dc1", "dc1-a")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := theirs.Agent("dc1", "dc1-a")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, serr := handshake(t, load(t, agent), load(t, stranger), ours); serr == nil {
		t.Error("a certificate of another CA was accepted")
	}
}

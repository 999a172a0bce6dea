// Package devcert makes certificates for a development set-up: a CA, one certificate for each agent, one for an
// administrator. They are good for trying mTLS on one machine. In production the certificates come from the site's own
// CA, with the same names in them.
//
// What the names mean: an agent's certificate has the URI ckptferry://DATACENTER/AGENT among its subject alternative
// names, which a peer compares with the datacenter that it means to talk to. A client's role is its organizational unit:
// reader, operator or admin. Start at NewCA.
package devcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// Lifetime is how long all of them are valid.
const Lifetime = 365 * 24 * time.Hour

// backdate lets a machine whose clock is behind use them at once.
const backdate = 10 * time.Minute

// Pair is a certificate and its private key, PEM.
type Pair struct{ Cert, Key []byte }

// CA signs certificates.
type CA struct {
	Pair
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  time.Time
}

// NewCA makes a CA that is valid from now on.
func NewCA(now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the CA's key: %w", err)
	}
	ca := &CA{key: key, now: now}
	template, err := ca.template(pkix.Name{CommonName: "ckptferry development CA"})
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	ca.Pair, err = sign(template, template, key, key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(ca.Cert)
	if ca.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, fmt.Errorf("read the CA's certificate back: %w", err)
	}
	return ca, nil
}

// Agent makes the certificate of one agent, for its servers and its calls, on this machine.
func (ca *CA) Agent(datacenter, agent string) (Pair, error) {
	template, err := ca.template(pkix.Name{CommonName: agent, Organization: []string{datacenter}})
	if err != nil {
		return Pair{}, err
	}
	template.URIs = []*url.URL{{Scheme: "ckptferry", Host: datacenter, Path: "/" + agent}}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return ca.issue(template)
}

// Client makes the certificate of a person or a tool with a role: reader, operator or admin.
func (ca *CA) Client(name, role string) (Pair, error) {
	template, err := ca.template(pkix.Name{CommonName: name, OrganizationalUnit: []string{role}})
	if err != nil {
		return Pair{}, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return ca.issue(template)
}

func (ca *CA) template(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    ca.now.Add(-backdate),
		NotAfter:     ca.now.Add(Lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, nil
}

func (ca *CA) issue(template *x509.Certificate) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make the key of %s: %w", template.Subject, err)
	}
	return sign(template, ca.cert, key, ca.key)
}

// sign makes a certificate for key, signed by the issuer's.
func sign(template, issuer *x509.Certificate, key, by *ecdsa.PrivateKey) (Pair, error) {
	cert, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), by)
	if err != nil {
		return Pair{}, fmt.Errorf("sign the certificate of %s: %w", template.Subject, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("encode the key of %s: %w", template.Subject, err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

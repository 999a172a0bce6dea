package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// CheckCertificates reads the files that tls names, and says whether other agents would take this one for who it is at
// the time now: each file can be read, the key is the certificate's, and the certificate names node.dc and node.id, is
// valid, and is vouched for by the CA, for serving and for calling. The error says all that is wrong, by file, with what
// is expected; nil without tls. It changes nothing.
//
// The rules are those of package rpc, which applies them to the agents at the other end, where nobody looks.
func (a Agent) CheckCertificates(now time.Time) error {
	if !a.TLS.Set() {
		return nil
	}
	cert, key, ca := tlsFile{"cert_file", a.TLS.CertFile}, tlsFile{"key_file", a.TLS.KeyFile}, tlsFile{"ca_file", a.TLS.CAFile}
	chain, certPEM, err := cert.certificates()
	if err != nil {
		chain = nil // its first one may be the one that can't be read
	}
	errs := []error{err}
	keyPEM, err := key.read()
	if errs = append(errs, err); err == nil && len(chain) > 0 {
		if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
			errs = append(errs, key.problem("%v: expected the private key of the certificate in tls.cert_file %s, PEM", err, cert.name))
		}
	}
	cas, _, err := ca.certificates()
	if len(cas) == 0 { // in a bundle, one that can't be read vouches for nobody, and is no mistake of this agent's
		errs = append(errs, err)
	}
	if len(chain) > 0 {
		errs = append(errs, cert.names(chain[0], a.Node))
		if err := cert.inTime(chain[0], now); err != nil {
			errs = append(errs, err)
		} else if len(cas) > 0 {
			errs = append(errs, cert.vouchedFor(chain, cas, ca, now))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: the certificates can't be used:\n%w", a.File, err)
	}
	return nil
}

// tlsFile is one of the files below tls.
type tlsFile struct{ key, name string }

func (f tlsFile) problem(format string, args ...any) error {
	return fmt.Errorf("tls.%s %s: %w", f.key, f.name, fmt.Errorf(format, args...))
}

func (f tlsFile) read() ([]byte, error) {
	text, err := os.ReadFile(f.name)
	if err == nil {
		return text, nil
	}
	if of := (*fs.PathError)(nil); errors.As(err, &of) {
		err = of.Err // the name is in front already
	}
	return nil, f.problem("%w: expected a PEM file that this process may read", err)
}

// certificates are those in the file that can be read, and its text. An error is of the first that can't, or that there
// is none.
func (f tlsFile) certificates() (all []*x509.Certificate, text []byte, err error) {
	if text, err = f.read(); err != nil {
		return nil, nil, err
	}
	n := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		cert, wrong := x509.ParseCertificate(block.Bytes)
		if wrong == nil {
			all = append(all, cert)
		} else if err == nil {
			err = f.problem("its certificate number %d can't be read: %w", n, wrong)
		}
	}
	if n == 0 {
		err = f.problem("it holds no certificate: expected PEM, -----BEGIN CERTIFICATE-----")
	}
	return all, text, err
}

// names checks whom the certificate names: by its one URI of ckptferry, or, where it has none, by its common name.
func (f tlsFile) names(cert *x509.Certificate, node Node) error {
	want := node.DC + "/" + node.ID
	var says []string
	is := cert.Subject.CommonName
	for _, u := range cert.URIs {
		if u.Scheme == "ckptferry" {
			says = append(says, u.String())
			is = u.Host + u.Path
			if *u != (url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}) {
				is = "" // with a user, a query or a fragment it names nobody
			}
		}
	}
	if len(says) <= 1 && is == want {
		return nil
	}
	said := strings.Join(says, " and ")
	if said == "" {
		said = fmt.Sprintf("no ckptferry: URI, only the subject %q", cert.Subject)
	}
	return f.problem("it says %s, expected ckptferry://%s (node.dc and node.id) as the one such URI among its subject alternative names", said, want)
}

func (f tlsFile) inTime(cert *x509.Certificate, now time.Time) error {
	word, limit := "from", cert.NotBefore
	switch {
	case now.Before(cert.NotBefore):
	case now.After(cert.NotAfter):
		word, limit = "until", cert.NotAfter
	default:
		return nil
	}
	return f.problem("it says that it is valid %s %s, expected one that is valid now, %s by this machine's clock",
		word, limit.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// vouchedFor checks the chain up to the CAs, for both ends of a connection.
func (f tlsFile) vouchedFor(chain, cas []*x509.Certificate, ca tlsFile, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	var names []string
	for _, cert := range cas {
		roots.AddCert(cert)
		names = append(names, fmt.Sprintf("%q", cert.Subject))
	}
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	verify := func(use x509.ExtKeyUsage) error {
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
		return err
	}
	if err := verify(x509.ExtKeyUsageAny); err != nil {
		return f.problem("it says that %q signed it, expected a certificate that tls.ca_file %s vouches for, which holds %s (%w)",
			chain[0].Issuer, ca.name, strings.Join(slices.Compact(names), ", "), err)
	}
	for use, name := range map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageClientAuth: "clientAuth"} {
		if err := verify(use); err != nil {
			return f.problem("its extended key usage, or a CA's above it, leaves out %s, expected both serverAuth and clientAuth: an agent serves and calls (%w)", name, err)
		}
	}
	return nil
}

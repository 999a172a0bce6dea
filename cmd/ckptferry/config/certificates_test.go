package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/cmd/ckptferry/devcert"
)

// certificateFiles writes the files of agent dc1/a, which are right, and returns its configuration.
func certificateFiles(t *testing.T, now time.Time) (cfg Agent, ca *devcert.CA) {
	t.Helper()
	ca, err := devcert.NewCA(now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg = Agent{File: filepath.Join(dir, "agent.yaml"), Node: Node{ID: "a", DC: "dc1"}}
	cfg.TLS = TLS{CertFile: filepath.Join(dir, "agent.crt"), KeyFile: filepath.Join(dir, "agent.key"), CAFile: filepath.Join(dir, "ca.crt")}
	replace(t, cfg.TLS.CAFile, ca.Cert)
	pair := agentPair(t, ca, "dc1", "a")
	replace(t, cfg.TLS.CertFile, pair.Cert)
	replace(t, cfg.TLS.KeyFile, pair.Key)
	return cfg, ca
}

func replace(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func agentPair(t *testing.T, ca *devcert.CA, dc, id string) devcert.Pair {
	t.Helper()
	pair, err := ca.Agent(dc, id)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// ownPair is a certificate that is its own CA, made as the template says.
func ownPair(t *testing.T, template *x509.Certificate) devcert.Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return devcert.Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

func TestCertificatesMustFitTheAgent(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	// use makes a certificate that is its own CA what the agent has.
	use := func(t *testing.T, cfg *Agent, name string, uris []string, usage []x509.ExtKeyUsage) {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), ExtKeyUsage: usage}
		for _, uri := range uris {
			u, err := url.Parse(uri)
			if err != nil {
				t.Fatal(err)
			}
			template.URIs = append(template.URIs, u)
		}
		pair := ownPair(t, template)
		replace(t, cfg.TLS.CertFile, pair.Cert)
		replace(t, cfg.TLS.KeyFile, pair.Key)
		replace(t, cfg.TLS.CAFile, pair.Cert)
	}
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, cfg *Agent, ca *devcert.CA)
		at    time.Time
		want  string // expression; empty: all is well
	}{
		"they fit":  {},
		"no tls":    {spoil: func(_ *testing.T, cfg *Agent, _ *devcert.CA) { cfg.TLS = TLS{} }},
		"in a year": {at: now.Add(devcert.Lifetime - time.Minute)},
		"another's key": {func(t *testing.T, cfg *Agent, ca *devcert.CA) {
			replace(t, cfg.TLS.KeyFile, agentPair(t, ca, "dc1", "a").Key)
		}, now, `tls\.key_file .*/agent\.key: .*does not match.*expected the private key .*/agent\.crt`},
		"no key in it":   {func(t *testing.T, cfg *Agent, _ *devcert.CA) { replace(t, cfg.TLS.KeyFile, []byte("x")) }, now, `tls\.key_file .*/agent\.key: `},
		"no key file":    {func(_ *testing.T, cfg *Agent, _ *devcert.CA) { cfg.TLS.KeyFile += "x" }, now, `tls\.key_file .*/agent\.keyx: no such file`},
		"no certificate": {func(_ *testing.T, cfg *Agent, _ *devcert.CA) { cfg.TLS.CertFile += "x" }, now, `tls\.cert_file .*/agent\.crtx: no such file`},
		"no CA":          {func(_ *testing.T, cfg *Agent, _ *devcert.CA) { cfg.TLS.CAFile += "x" }, now, `tls\.ca_file .*/ca\.crtx: no such file`},
		"a directory":    {func(_ *testing.T, cfg *Agent, _ *devcert.CA) { cfg.TLS.CAFile = filepath.Dir(cfg.TLS.CAFile) }, now, `tls\.ca_file .*: is a directory`},
		"no PEM":         {func(t *testing.T, cfg *Agent, _ *devcert.CA) { replace(t, cfg.TLS.CertFile, []byte("x")) }, now, `tls\.cert_file .*/agent\.crt: it holds no certificate`},
		"a broken one": {func(t *testing.T, cfg *Agent, _ *devcert.CA) {
			replace(t, cfg.TLS.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 1}}))
		}, now, `tls\.cert_file .*/agent\.crt: .*x509: `},
		"a CA file without one": {func(t *testing.T, cfg *Agent, _ *devcert.CA) { replace(t, cfg.TLS.CAFile, []byte("x")) }, now, `tls\.ca_file .*/ca\.crt: it holds no certificate`},
		"a CA file with one that can't be read": {spoil: func(t *testing.T, cfg *Agent, ca *devcert.CA) {
			replace(t, cfg.TLS.CAFile, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 1}}), ca.Cert...))
		}},
		"another's name": {func(_ *testing.T, cfg *Agent, _ *devcert.CA) { cfg.Node.ID = "b" }, now,
			`tls\.cert_file .*/agent\.crt: it says ckptferry://dc1/a, expected ckptferry://dc1/b \(node\.dc and node\.id`},
		"another datacenter's": {func(_ *testing.T, cfg *Agent, _ *devcert.CA) { cfg.Node.DC = "dc2" }, now, `it says ckptferry://dc1/a, expected ckptferry://dc2/a `},
		"a person's": {func(t *testing.T, cfg *Agent, ca *devcert.CA) {
			pair, err := ca.Client("admin", "admin")
			if err != nil {
				t.Fatal(err)
			}
			replace(t, cfg.TLS.CertFile, pair.Cert)
			replace(t, cfg.TLS.KeyFile, pair.Key)
		}, now, `it says no ckptferry: URI, only the subject "CN=admin,OU=admin", expected ckptferry://dc1/a `},
		"expired":       {at: now.Add(devcert.Lifetime + time.Minute), want: `tls\.cert_file .*/agent\.crt: it says that it is valid until 2027-03-01T12:00:00Z, expected .* now, 2027-03-01T12:01:00Z`},
		"not yet valid": {at: now.Add(-time.Hour), want: `tls\.cert_file .*: it says that it is valid from 2026-03-01T11:50:00Z`},
		"another CA": {func(t *testing.T, cfg *Agent, _ *devcert.CA) {
			other, err := devcert.NewCA(now)
			if err != nil {
				t.Fatal(err)
			}
			replace(t, cfg.TLS.CAFile, other.Cert)
		}, now, `tls\.cert_file .*/agent\.crt: it says that "CN=ckptferry development CA" signed it, expected .* tls\.ca_file .*/ca\.crt`},
		"its own CA":    {spoil: func(t *testing.T, cfg *Agent, _ *devcert.CA) { use(t, cfg, "x", []string{"ckptferry://dc1/a"}, both) }},
		"a common name": {spoil: func(t *testing.T, cfg *Agent, _ *devcert.CA) { use(t, cfg, "dc1/a", []string{"spiffe://x/y"}, both) }},
		"two names": {spoil: func(t *testing.T, cfg *Agent, _ *devcert.CA) {
			use(t, cfg, "x", []string{"ckptferry://dc1/a", "ckptferry://dc2/a"}, both)
		}, want: `it says ckptferry://dc1/a and ckptferry://dc2/a, expected`},
		"for servers alone": {spoil: func(t *testing.T, cfg *Agent, _ *devcert.CA) {
			use(t, cfg, "x", []string{"ckptferry://dc1/a"}, both[:1])
		}, want: `expected .*clientAuth`},
		"for clients alone": {spoil: func(t *testing.T, cfg *Agent, _ *devcert.CA) {
			use(t, cfg, "x", []string{"ckptferry://dc1/a"}, both[1:])
		}, want: `expected .*serverAuth`},
		"two mistakes": {func(_ *testing.T, cfg *Agent, _ *devcert.CA) { cfg.Node.ID, cfg.TLS.CAFile = "b", "none" }, now, `(?s)tls\.ca_file none.*tls\.cert_file.*expected ckptferry://dc1/b`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, ca := certificateFiles(t, now)
			if tc.spoil != nil {
				tc.spoil(t, &cfg, ca)
			}
			at := tc.at
			if at.IsZero() {
				at = now
			}
			err := cfg.CheckCertificates(at)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tc.want != "" && (err == nil || !regexp.MustCompile(tc.want).MatchString(err.Error())):
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/fsutil"
	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

func TestWhomACertificateNames(t *testing.T) {
	for name, tc := range map[string]struct {
		holder holder
		want   identity // empty: nobody
	}{
		"a URI":                          {agentCert("dc1", "a1"), identity{"dc1", "a1"}},
		"a common name":                  {holder{commonName: "dc1/a1"}, identity{"dc1", "a1"}},
		"a URI before the common name":   {holder{uris: []string{"ckptferry://dc1/a1"}, commonName: "dc2/b1"}, identity{"dc1", "a1"}},
		"another's URI is not looked at": {holder{uris: []string{"spiffe://x/y"}, commonName: "dc1/a1"}, identity{"dc1", "a1"}},
		"a person":                       {personCert("admin"), identity{}},
		"two URIs":                       {holder{uris: []string{"ckptferry://dc1/a1", "ckptferry://dc2/a1"}}, identity{}},
		"no agent":                       {holder{uris: []string{"ckptferry://dc1"}}, identity{}},
		"an empty agent":                 {holder{uris: []string{"ckptferry://dc1/"}}, identity{}},
		"no datacenter":                  {holder{uris: []string{"ckptferry:///a1"}}, identity{}},
		"a longer path":                  {holder{uris: []string{"ckptferry://dc1/a1/x"}}, identity{}},
		"a query":                        {holder{uris: []string{"ckptferry://dc1/a1?dc=dc2"}}, identity{}},
		"a user":                         {holder{uris: []string{"ckptferry://dc2@dc1/a1"}}, identity{}},
		"a bad URI does not fall back":   {holder{uris: []string{"ckptferry://dc1"}, commonName: "dc1/a1"}, identity{}},
		"a common name with more":        {holder{commonName: "dc1/a1/x"}, identity{}},
		"nothing":                        {holder{}, identity{}},
	} {
		got, err := agentOf(tc.holder.template(t))
		if got != tc.want || (err == nil) != (tc.want != identity{}) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, tc.want)
		}
	}
}

func TestRoles(t *testing.T) {
	for name, tc := range map[string]struct {
		holder holder
		want   role
	}{
		"reader":                      {personCert("reader"), roleReader},
		"operator":                    {personCert("operator"), roleOperator},
		"admin":                       {personCert("admin"), roleAdmin},
		"another unit":                {personCert("accounting"), roleNone},
		"the highest of two":          {holder{units: []string{"reader", "admin"}}, roleAdmin},
		"letters count":               {personCert("Admin"), roleNone},
		"nobody":                      {holder{commonName: "x"}, roleNone},
		"an agent of this datacenter": {agentCert("dc1", "a1"), roleAdmin},
		"an agent of another":         {agentCert("dc2", "b1"), roleNone},
		"an agent that has a unit":    {holder{uris: []string{"ckptferry://dc1/a1"}, units: []string{"reader"}}, roleReader},
	} {
		if got := roleOf(tc.holder.template(t), "dc1"); got != tc.want {
			t.Errorf("%s: %s; want %s", name, got, tc.want)
		}
	}
}

// newTLSWorld is a source with mTLS, and its log.
func newTLSWorld(t *testing.T, source *TLS) (*network, *group, *buffer) {
	t.Helper()
	n, files := newNetwork(), fsutil.NewMemory(memoryRoot)
	put(t, files, "orders/f", []byte("hello"))
	g := newGroup(raftstore.Export{Name: "prod", Bases: []string{"hdfs://dc1/flink/{job}"}, To: []string{"dc2"}})
	cfg := sourceConfig(g, opener{func(fsutil.URI) (fsutil.ReadFS, error) { return files, nil }})
	log := &buffer{}
	cfg.TLS, cfg.Log = source, slog.New(slog.NewTextHandler(log, nil))
	servePeers(t, n, "a1", cfg)
	return n, g, log
}

// readWith reads a file as an agent of the datacenter that the caller says it is of.
func readWith(t *testing.T, n *network, files *TLS, datacenter string) error {
	t.Helper()
	p, err := DialPeer(PeerConfig{Datacenter: datacenter, Agent: "b1", Expect: "dc1", Endpoints: []string{"a1"}, TLS: files, dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	got, err := readAll(t.Context(), openRemote(t, p, memoryRoot), "orders/f")
	if err == nil && string(got) != "hello" {
		t.Errorf("read %q", got)
	}
	return err
}

func TestAPeersDatacenterIsThatOfItsCertificate(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	n, g, log := newTLSWorld(t, ca.issue(t, t.TempDir(), agentCert("dc1", "a1")))
	stranger := other.issue(t, t.TempDir(), agentCert("dc2", "b1")) // which trusts the source
	stranger.CAFile = ca.issue(t, t.TempDir(), agentCert("dc2", "b1")).CAFile
	for name, tc := range map[string]struct {
		files      *TLS
		datacenter string
		want       string // said to the caller; empty: it may
		logged     string
	}{
		"the right one":                  {ca.issue(t, t.TempDir(), agentCert("dc2", "b1")), "dc2", "", ""},
		"named by the common name":       {ca.issue(t, t.TempDir(), holder{commonName: "dc2/b1"}), "dc2", "", ""},
		"of a datacenter that may not":   {ca.issue(t, t.TempDir(), agentCert("dc3", "b1")), "dc3", "not for datacenter", ""},
		"who says that it is of another": {ca.issue(t, t.TempDir(), agentCert("dc3", "b1")), "dc2", "certificate", ""},
		"a person":                       {ca.issue(t, t.TempDir(), personCert("admin")), "dc2", "names no agent", ""},
		"signed by somebody else":        {stranger, "dc2", "reach datacenter", "unknown authority"},
		"expired":                        {ca.issue(t, t.TempDir(), holder{uris: []string{"ckptferry://dc2/b1"}, expired: true}), "dc2", "reach datacenter", "expired"},
		"without TLS":                    {nil, "dc2", "reach datacenter", "first record does not look like a TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			err := readWith(t, n, tc.files, tc.datacenter)
			if tc.want == "" && err != nil {
				t.Error(err)
			}
			if tc.want != "" {
				wantSays(t, "read", err, tc.want)
			}
			eventually(t, "the log says why", func() bool { return strings.Contains(log.String(), tc.logged) })
		})
	}
	g.change(func() { g.exports["prod"] = raftstore.Export{Name: "prod", To: []string{"dc3"}} })
	wantErr(t, "an agent whose datacenter may not any more", readWith(t, n, ca.issue(t, t.TempDir(), agentCert("dc2", "b1")), "dc2"), fs.ErrPermission)
}

// A target does not hand itself to whoever answers.
func TestASourceIsThatOfItsCertificate(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	mine := ca.issue(t, t.TempDir(), agentCert("dc2", "b1"))
	for name, source := range map[string]*TLS{
		"an agent of another datacenter": ca.issue(t, t.TempDir(), agentCert("dc9", "a1")),
		"nobody":                         ca.issue(t, t.TempDir(), holder{commonName: "host"}),
		"a person":                       ca.issue(t, t.TempDir(), holder{uris: []string{"ckptferry://dc1/a1"}, noServer: true}),
		"signed by somebody else":        other.issue(t, t.TempDir(), agentCert("dc1", "a1")),
	} {
		n, _, _ := newTLSWorld(t, source)
		err := readWith(t, n, mine, "dc2")
		wantErr(t, name, err, fsutil.ErrUnavailable)
		wantSays(t, name, err, "certificate")
	}
}

func TestCertificatesAreReloaded(t *testing.T) {
	old, fresh := newAuthority(t), newAuthority(t)
	sourceDir, targetDir := t.TempDir(), t.TempDir()
	source := old.issue(t, sourceDir, agentCert("dc1", "a1"))
	target := old.issue(t, targetDir, agentCert("dc2", "b1"))
	n, _, _ := newTLSWorld(t, source)
	p, err := DialPeer(PeerConfig{Datacenter: "dc2", Agent: "b1", Expect: "dc1", Endpoints: []string{"a1"}, TLS: target, dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	remote := openRemote(t, p, memoryRoot)
	read := func(newConnection bool) error {
		if newConnection {
			n.cut("a1")
		}
		_, err := readAll(t.Context(), remote, "orders/f")
		return err
	}
	if err := read(false); err != nil {
		t.Fatal(err)
	}
	fresh.issue(t, sourceDir, agentCert("dc1", "a1"))
	if err := read(false); err != nil {
		t.Errorf("a connection that is open: %v", err)
	}
	if err := read(true); err == nil {
		t.Error("a target that knows the old CA alone trusts the new one")
	}
	fresh.issue(t, targetDir, agentCert("dc2", "b1"))
	if err := read(true); err != nil {
		t.Errorf("both have the new CA: %v", err)
	}

	// A file that is only half there changes nothing.
	whole, err := os.ReadFile(source.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range [][]byte{whole[:len(whole)/2], nil} {
		replace(t, source.KeyFile, half)
		if err := read(true); err != nil {
			t.Errorf("with %d bytes of a key: %v", len(half), err)
		}
	}
	if err := os.Remove(source.CertFile); err != nil {
		t.Fatal(err)
	}
	if err := read(true); err != nil {
		t.Errorf("without a certificate file: %v", err)
	}
}

func TestTLSFilesThatCantBeUsedAreToldAtOnce(t *testing.T) {
	ca := newAuthority(t)
	good := ca.issue(t, t.TempDir(), agentCert("dc1", "a1"))
	for name, files := range map[string]TLS{
		"no such file":         {CertFile: "/none/agent.crt", KeyFile: good.KeyFile, CAFile: good.CAFile},
		"no PEM certificate":   {CertFile: good.CertFile, KeyFile: good.KeyFile, CAFile: good.KeyFile},
		"load the certificate": {CertFile: good.CAFile, KeyFile: good.KeyFile, CAFile: good.CAFile},
	} {
		_, err := DialPeer(PeerConfig{Datacenter: "dc2", Agent: "b1", Expect: "dc1", Endpoints: []string{"x"}, TLS: &files})
		wantSays(t, "DialPeer", err, name)
		cfg := sourceConfig(newGroup(), nil)
		cfg.TLS = &files
		l := newNetwork().listen("x")
		wantSays(t, "Serve", NewPeerServer(cfg).Serve(l), name)
		_, err = DialAPI(t.Context(), "x:1", &files)
		wantErr(t, "DialAPI", err, ErrInvalid)
		_, _, err = files.RaftTLS("dc1", nil)
		wantSays(t, "RaftTLS", err, name)
	}
}

func TestRaftTLSKeepsOtherDatacentersOut(t *testing.T) {
	ca := newAuthority(t)
	server, _, err := ca.issue(t, t.TempDir(), agentCert("dc1", "a1")).RaftTLS("dc1", nil)
	if err != nil {
		t.Fatal(err)
	}
	shake := func(h holder) (serverErr, clientErr error) {
		_, client, err := ca.issue(t, t.TempDir(), h).RaftTLS("dc1", nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := tls.Listen("tcp", "127.0.0.1:0", server)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		done := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				defer conn.Close()
				err = conn.(*tls.Conn).HandshakeContext(t.Context())
			}
			done <- err
		}()
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn := tls.Client(raw, client)
		clientErr = conn.HandshakeContext(t.Context())
		if clientErr == nil {
			_, _ = conn.Read(make([]byte, 1)) // takes the server's refusal
		}
		_ = raw.Close()
		return <-done, clientErr
	}
	if s, c := shake(agentCert("dc1", "a2")); s != nil || c != nil {
		t.Errorf("an agent of the group: %v, %v", s, c)
	}
	for _, h := range []holder{agentCert("dc2", "a2"), personCert("admin")} {
		if s, _ := shake(h); s == nil || !strings.Contains(s.Error(), "dc1") && !strings.Contains(s.Error(), "names no agent") {
			t.Errorf("%+v: %v", h, s)
		}
	}
	var unknown x509.UnknownAuthorityError
	stranger, _, err := newAuthority(t).issue(t, t.TempDir(), agentCert("dc1", "a1")).RaftTLS("dc1", nil)
	if err != nil {
		t.Fatal(err)
	}
	server = stranger
	if _, c := shake(agentCert("dc1", "a2")); !errors.As(c, &unknown) {
		t.Errorf("a stranger's server: %v", c)
	}
}

func TestEveryMethodOfTheAPIHasARole(t *testing.T) {
	s := newServer(sourceConfig(newGroup(), nil))
	s.serveAPI()
	defer s.Stop()
	methods := map[string]bool{}
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			methods[name] = true
			if _, ok := neededRoles[name]; !ok {
				t.Errorf("%s has no role", name)
			}
		}
	}
	for name := range neededRoles {
		if !methods[name] {
			t.Errorf("%s is no method", name)
		}
	}
	if neededRoles[ckptferryv1.RouteService_ApplyRoutes_FullMethodName] != roleAdmin {
		t.Error("ApplyRoutes is not for admins alone")
	}
}

func TestWhoMayCallTheAPI(t *testing.T) {
	ca := newAuthority(t)
	applied := 0
	cfg := sourceConfig(newGroup(), nil)
	cfg.TLS = ca.issue(t, t.TempDir(), agentCert("dc1", "a1"))
	cfg.Apply = applyFunc(func() ([]string, error) { applied++; return nil, nil })
	endpoint := serveAPI(t, cfg)
	for name, tc := range map[string]struct {
		holder      holder
		read, apply error
	}{
		"reader":              {personCert("reader"), nil, ErrDenied},
		"operator":            {personCert("operator"), nil, ErrDenied},
		"admin":               {personCert("admin"), nil, nil},
		"nobody":              {personCert("accounting"), ErrDenied, ErrDenied},
		"an agent":            {agentCert("dc1", "a2"), nil, nil},
		"an agent of another": {agentCert("dc2", "b1"), ErrDenied, ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := DialAPI(t.Context(), endpoint, ca.issue(t, t.TempDir(), tc.holder))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, err = client.Lag(t.Context(), &ckptferryv1.GetReplicaLagRequest{})
			wantErr(t, "Lag", err, tc.read)
			before := applied
			_, err = client.ApplyRoutes(t.Context(), &ckptferryv1.ApplyRoutesRequest{Routes: []*ckptferryv1.Route{{}}})
			wantErr(t, "ApplyRoutes", err, tc.apply)
			if tc.apply != nil && applied != before {
				t.Error("it was applied")
			}
			if tc.apply != nil {
				wantSays(t, "ApplyRoutes", err, "admin", "[DENIED]")
			}
		})
	}
	for name, files := range map[string]*TLS{"plaintext": nil, "another CA": newAuthority(t).issue(t, t.TempDir(), personCert("admin"))} {
		client, err := DialAPI(t.Context(), endpoint, files)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Lag(t.Context(), &ckptferryv1.GetReplicaLagRequest{})
		wantErr(t, name, err, ErrUnavailable)
		_ = client.Close()
	}
}

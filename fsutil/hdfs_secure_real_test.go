//go:build e2e

package fsutil_test

import (
	"bytes"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ckptferry/ckptferry/e2e/lab/hdfslab"
	"github.com/ckptferry/ckptferry/fsutil"
)

func kerberized(c *hdfslab.Cluster, kdc *hdfslab.KDC) fsutil.HDFSConfig {
	cfg := quick(c)
	cfg.Kerberos = fsutil.KerberosConfig{Principal: "agent@" + kdc.Realm, KeytabFile: kdc.Keytab, Krb5Conf: kdc.Krb5Conf}
	return cfg
}

// forAgent makes the directory that the agent's principal may write to.
func forAgent(t *testing.T, c *hdfslab.Cluster) {
	t.Helper()
	for _, args := range [][]string{{"-mkdir", "/agent"}, {"-chown", "agent", "/agent"}} {
		if _, err := c.Run("fs", args...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHDFSWithKerberos(t *testing.T) {
	kdc := hdfslab.NewKDC(t)
	for name, protection := range map[string]map[string]string{
		"authentication": {},
		"encrypted calls and blocks": {
			"hadoop.rpc.protection": "privacy", "dfs.encrypt.data.transfer": "true", "dfs.encrypt.data.transfer.cipher.suites": "AES/CTR/NoPadding",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := hdfslab.New(t, hdfslab.Options{Security: kdc, Properties: protection})
			forAgent(t, c)
			f := openAt(t, kerberized(c, kdc), c.URI()+"/agent")
			content := randomBytes(300_000)
			if err := putHDFS(t.Context(), f, "f", content); err != nil {
				t.Fatal(err)
			}
			wantBytes(t, f, "f", content)
			got, err := getHDFS(t.Context(), f, "f", 123_456)
			if err != nil || !bytes.Equal(got, content[123_456:]) {
				t.Errorf("read from an offset: %d bytes, %v", len(got), err)
			}
			if len(protection) == 0 {
				refusesWhoHasNoTicket(t, c, kdc)
				outlivesItsTicket(t, c, kdc)
			}
		})
	}
}

// outlivesItsTicket makes connections after the ticket of the first one has expired.
func outlivesItsTicket(t *testing.T, c *hdfslab.Cluster, kdc *hdfslab.KDC) {
	cfg := kerberized(c, kdc)
	cfg.Kerberos.Principal = "brief@" + kdc.Realm
	f := openAt(t, cfg, c.URI()+"/")
	time.Sleep(hdfslab.BriefTicket + 5*time.Second)
	var calls sync.WaitGroup
	for range 32 {
		calls.Go(func() {
			if _, err := f.Stat(t.Context(), "agent"); err != nil {
				t.Errorf("stat with a renewed ticket: %v", err)
			}
		})
	}
	calls.Wait()
}

func refusesWhoHasNoTicket(t *testing.T, c *hdfslab.Cluster, kdc *hdfslab.KDC) {
	root, err := fsutil.ParseURI(c.URI() + "/")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*fsutil.HDFSConfig)
		naming string
	}{
		"no principal": {func(k *fsutil.HDFSConfig) { k.Kerberos = fsutil.KerberosConfig{} }, "keytab"},
		"no configuration that asks for Kerberos": {func(k *fsutil.HDFSConfig) {
			k.Kerberos, k.ConfDir = fsutil.KerberosConfig{}, t.TempDir()
			writeFile(t, k.ConfDir+"/core-site.xml", "<configuration/>")
		}, "without Kerberos"},
		"a principal that the keytab lacks": {func(k *fsutil.HDFSConfig) { k.Kerberos.Principal = "stranger@" + kdc.Realm }, "stranger"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := kerberized(c, kdc)
			tc.change(&cfg)
			h := fsutil.NewHDFS(cfg)
			defer h.Close() // nothing is open
			var err error
			within(t, bound, "open", func() { _, err = h.Open(t.Context(), root) })
			wantErrIs(t, "open", err, fs.ErrPermission)
			if err != nil && !strings.Contains(err.Error(), tc.naming) {
				t.Errorf("open: %v; want it to say %q", err, tc.naming)
			}
		})
	}
}

// A cluster whose wire mode the client can't read is refused when it is opened, from its configuration; where that is
// not at hand, when it is read.
func TestHDFSTransferProtectionThatCannotBeReadIsRefused(t *testing.T) {
	kdc := hdfslab.NewKDC(t)
	c := hdfslab.New(t, hdfslab.Options{Security: kdc, TransferProtection: "privacy"})
	root, err := fsutil.ParseURI(c.URI() + "/")
	if err != nil {
		t.Fatal(err)
	}
	h := fsutil.NewHDFS(kerberized(c, kdc))
	defer h.Close() // nothing is open
	_, err = h.Open(t.Context(), root)
	wantRefusal(t, "open", err, "dfs.data.transfer.protection")

	forAgent(t, c)
	for protection, want := range map[string]error{"": fsutil.ErrUnavailable, "authentication": fsutil.ErrUnsupported} {
		blind := kerberized(c, kdc)
		blind.ConfDir = t.TempDir()
		writeFile(t, blind.ConfDir+"/core-site.xml", "<configuration><property><name>hadoop.security.authentication</name><value>kerberos</value></property>"+
			"<property><name>dfs.data.transfer.protection</name><value>"+protection+"</value></property></configuration>")
		blind.Kerberos.NamenodePrincipal = "nn/localhost@" + kdc.Realm
		f := openAt(t, blind, c.URI()+"/agent")
		err = putHDFS(t.Context(), f, "f"+protection, randomBytes(1000)) // the client writes through it, but can't read
		if err == nil {
			_, err = getHDFS(t.Context(), f, "f"+protection, 0)
		}
		wantErrIs(t, "write and read, configured for "+protection, err, want)
		if err != nil && !strings.Contains(err.Error(), "dfs.data.transfer.protection") {
			t.Errorf("%v; want it to name the setting", err)
		}
	}
}

package hdfslab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// KDC is a running MIT Kerberos KDC with the principals that a cluster and its clients need, all in one keytab:
// nn/localhost, dn/localhost, HTTP/localhost, agent, flink, and brief, whose tickets live for BriefTicket.
type KDC struct {
	Realm    string
	Krb5Conf string // file
	Keytab   string // file
	process  *process
}

// BriefTicket is the life of the principal brief's tickets.
const BriefTicket = 15 * time.Second

// NewKDC starts a KDC for a test. Without the programs of Debian's krb5-kdc and krb5-admin-server the test is skipped.
func NewKDC(t testing.TB) *KDC {
	t.Helper()
	k, err := StartKDC(t.Context(), t.TempDir())
	if errors.Is(err, ErrPrerequisite) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("hdfslab: %v", err)
	}
	t.Cleanup(k.Close)
	return k
}

// StartKDC starts a KDC that keeps its files in dir. A missing program is ErrPrerequisite.
func StartKDC(ctx context.Context, dir string) (*KDC, error) {
	bin := map[string]string{}
	for _, name := range []string{"krb5kdc", "kdb5_util", "kadmin.local"} {
		found, err := lookSbin(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %s is not installed: install a KDC (Debian: krb5-kdc krb5-admin-server)", ErrPrerequisite, name)
		}
		bin[name] = found
	}
	free, err := FreePorts(1)
	if err != nil {
		return nil, fmt.Errorf("start a KDC: %w", err)
	}
	addr := hostPort(free[0])
	k := &KDC{Realm: "LAB", Krb5Conf: filepath.Join(dir, "krb5.conf"), Keytab: filepath.Join(dir, "lab.keytab")}
	kdcConf := filepath.Join(dir, "kdc.conf")
	for name, text := range map[string]string{
		k.Krb5Conf:                    fmt.Sprintf(krb5Conf, addr),
		kdcConf:                       fmt.Sprintf(kdcConfText, addr, addr, dir, dir, dir, dir),
		filepath.Join(dir, "kdc.acl"): "",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("start a KDC: %w", err)
		}
	}
	env := append(os.Environ(), "KRB5_CONFIG="+k.Krb5Conf, "KRB5_KDC_PROFILE="+kdcConf)
	run := func(name string, args ...string) error {
		cmd := exec.CommandContext(ctx, bin[name], args...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("start a KDC: %s: %w: %s", name, err, out)
		}
		return nil
	}
	if err := run("kdb5_util", "create", "-s", "-r", k.Realm, "-P", "lab"); err != nil {
		return nil, err
	}
	for _, principal := range []string{"nn/localhost", "dn/localhost", "HTTP/localhost", "agent", "flink", "brief"} {
		options := "-randkey "
		if principal == "brief" {
			options += fmt.Sprintf("-maxlife \"%d seconds\" ", int(BriefTicket.Seconds()))
		}
		if err := run("kadmin.local", "-q", "addprinc "+options+principal); err != nil {
			return nil, err
		}
		if err := run("kadmin.local", "-q", "ktadd -k "+k.Keytab+" -norandkey "+principal); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(bin["krb5kdc"], "-n")
	cmd.Env = env
	if k.process, err = spawn("kdc", filepath.Join(dir, "kdc.out"), cmd); err != nil {
		return nil, err
	}
	if err := waitListening(ctx, free[0]); err != nil {
		k.Close()
		return nil, fmt.Errorf("start a KDC: %w", err)
	}
	return k, nil
}

// Close kills the KDC. Idempotent.
func (k *KDC) Close() { k.process.kill() }

// lookSbin finds a program that Debian keeps where an ordinary user's PATH does not look.
func lookSbin(name string) (string, error) {
	if found, err := exec.LookPath(name); err == nil {
		return found, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", name))
}

const krb5Conf = `[libdefaults]
 default_realm = LAB
 dns_lookup_kdc = false
 dns_lookup_realm = false
 rdns = false
 dns_canonicalize_hostname = false
 udp_preference_limit = 1
 ticket_lifetime = 24h
 renew_lifetime = 7d
[realms]
 LAB = {
  kdc = %s
 }
[domain_realm]
 localhost = LAB
`

const kdcConfText = `[kdcdefaults]
 kdc_listen = %s
 kdc_tcp_listen = %s
[realms]
 LAB = {
  database_name = %s/principal
  key_stash_file = %s/stash
  acl_file = %s/kdc.acl
  max_life = 24h
  max_renewable_life = 7d
  supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
 }
[logging]
 kdc = FILE:%s/kdc.log
`

package rpc

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// identity is an agent of a datacenter.
type identity struct{ datacenter, agent string }

func (i identity) String() string { return i.datacenter + "/" + i.agent }

// scheme is that of the URI among a certificate's subject alternative names which says who an agent is:
// ckptferry://DATACENTER/AGENT.
const scheme = "ckptferry"

// agentOf is whom a certificate names, by its URI or, where it has none of ours, by a common name DATACENTER/AGENT.
// Two different URIs name nobody.
func agentOf(cert *x509.Certificate) (identity, error) {
	ours := slices.DeleteFunc(slices.Clone(cert.URIs), func(u *url.URL) bool { return u.Scheme != scheme })
	name := cert.Subject.CommonName
	switch len(ours) {
	case 0:
	case 1:
		u := ours[0]
		if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return identity{}, fmt.Errorf("the certificate's URI %q is not %s://DATACENTER/AGENT", u, scheme)
		}
		name = u.Host + u.Path
	default:
		return identity{}, fmt.Errorf("the certificate has %d URIs %s://…, and must have one", len(ours), scheme)
	}
	datacenter, agent, ok := strings.Cut(name, "/")
	if !ok || datacenter == "" || agent == "" || strings.Contains(agent, "/") {
		return identity{}, fmt.Errorf("the certificate of %q names no agent: it needs the URI %s://DATACENTER/AGENT, or the common name DATACENTER/AGENT",
			cert.Subject, scheme)
	}
	return identity{datacenter, agent}, nil
}

// mustBeAgentOf checks a certificate for being an agent's of a datacenter.
func mustBeAgentOf(datacenter string) func(*x509.Certificate) error {
	return func(cert *x509.Certificate) error {
		is, err := agentOf(cert)
		if err != nil {
			return err
		}
		if is.datacenter != datacenter {
			return fmt.Errorf("the certificate is of agent %s, and one of datacenter %s is expected", is, datacenter)
		}
		return nil
	}
}

// role is what a caller of the public API may do. Each may do what those before it may.
type role int

const (
	roleNone role = iota
	roleReader
	roleOperator
	roleAdmin
)

// roleNames are the organizational units of certificates.
var roleNames = map[string]role{"reader": roleReader, "operator": roleOperator, "admin": roleAdmin}

func (r role) String() string {
	for name, named := range roleNames {
		if named == r {
			return name
		}
	}
	return "none"
}

// roleOf is what a certificate's organizational units say: the highest that is a role. Without one, an agent of the
// own datacenter is an admin.
func roleOf(cert *x509.Certificate, datacenter string) role {
	highest := roleNone
	for _, unit := range cert.Subject.OrganizationalUnit {
		highest = max(highest, roleNames[unit])
	}
	if highest == roleNone && mustBeAgentOf(datacenter)(cert) == nil {
		return roleAdmin
	}
	return highest
}

// certificateOf is what the caller showed; nil on a connection without TLS.
func certificateOf(ctx context.Context) (*x509.Certificate, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, fmt.Errorf("%w: the connection is unknown", ErrDenied)
	}
	if p.AuthInfo == nil || p.AuthInfo.AuthType() == "insecure" {
		return nil, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: no certificate was shown", ErrDenied)
	}
	return info.State.PeerCertificates[0], nil
}

// metadataDatacenter is where a calling agent says its datacenter, in each call. With TLS its certificate decides.
const metadataDatacenter = "ckptferry-datacenter"

// datacenterOf is the calling agent's datacenter.
func datacenterOf(ctx context.Context) (string, error) {
	cert, err := certificateOf(ctx)
	if err != nil {
		return "", err
	}
	said := ""
	if all := metadata.ValueFromIncomingContext(ctx, metadataDatacenter); len(all) > 0 {
		said = all[0]
	}
	if cert == nil {
		if said == "" {
			return "", fmt.Errorf("%w: the call names no datacenter (metadata %s)", ErrDenied, metadataDatacenter)
		}
		return said, nil
	}
	is, err := agentOf(cert)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDenied, err)
	}
	if said != "" && said != is.datacenter {
		return "", fmt.Errorf("%w: the call says that it comes from datacenter %q, and its certificate is of agent %s", ErrDenied, said, is)
	}
	return is.datacenter, nil
}

// neededRoles says who may call what of the public API. What is not here needs an admin.
var neededRoles = map[string]role{
	"/ckptferry.v1.ReplicaService/GetReplicaLag":                     roleReader,
	"/ckptferry.v1.ReplicaService/ListReplicas":                      roleReader,
	"/ckptferry.v1.ReplicaService/WatchReplicas":                     roleReader,
	"/ckptferry.v1.ReplicaService/PinReplica":                        roleOperator,
	"/ckptferry.v1.RouteService/RemoveRoutes":                        roleAdmin,
	"/ckptferry.v1.AgentService/AddVoter":                            roleAdmin,
	"/ckptferry.v1.AgentService/RemoveVoter":                         roleAdmin,
	"/ckptferry.v1.AgentService/TransferLeadership":                  roleOperator,
	"/ckptferry.v1.CheckpointService/ListCheckpoints":                roleReader,
	"/ckptferry.v1.RouteService/ListRoutes":                          roleReader,
	"/ckptferry.v1.RouteService/ApplyRoutes":                         roleAdmin,
	"/ckptferry.v1.AgentService/GetStatus":                           roleReader,
	"/ckptferry.v1.AgentService/ListAudit":                           roleReader,
	"/ckptferry.v1.StorageService/PruneReplicas":                     roleOperator,
	"/ckptferry.v1.StorageService/ScrubReplicas":                     roleOperator,
	"/ckptferry.v1.StorageService/RebuildCatalog":                    roleAdmin,
	"/ckptferry.v1.StorageService/RecordDrill":                       roleOperator,
	"/ckptferry.v1.StorageService/ListDrills":                        roleReader,
	"/ckptferry.v1.FailoverService/PlanFailover":                     roleReader,
	"/ckptferry.v1.FailoverService/RunFailover":                      roleOperator,
	"/ckptferry.v1.FailoverService/ListPromotions":                   roleReader,
	"/ckptferry.v1.FailoverService/AbortFailover":                    roleOperator,
	"/ckptferry.v1.MigrationService/PlanMigration":                   roleReader,
	"/ckptferry.v1.MigrationService/StartMigration":                  roleOperator,
	"/ckptferry.v1.MigrationService/SetMigrationState":               roleOperator,
	"/ckptferry.v1.MigrationService/ReportMigrationJob":              roleOperator,
	"/ckptferry.v1.MigrationService/GetMigration":                    roleReader,
	"/ckptferry.v1.MigrationService/ListMigrations":                  roleReader,
	"/grpc.health.v1.Health/Check":                                   roleNone,
	"/grpc.health.v1.Health/Watch":                                   roleNone,
	"/grpc.health.v1.Health/List":                                    roleNone,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      roleReader,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": roleReader,
}

// mayCall refuses a caller of the public API who has not the role for a method. A caller without TLS has every role:
// plaintext is for loopback, or was asked for.
func mayCall(ctx context.Context, method, datacenter string) error {
	who, err := callerOf(ctx, datacenter)
	if err != nil {
		return err
	}
	needed, ok := neededRoles[method]
	if !ok {
		needed = roleAdmin
	}
	if who.Role < needed {
		return fmt.Errorf("%w: %s needs the role %s, and the certificate of %q has %s; use one whose organizational unit is %s",
			ErrDenied, method, needed, who.Name, who.Role, needed)
	}
	return nil
}

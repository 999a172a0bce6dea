package rpc

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/metadata"
)

// caller is who calls the public API, also through another agent of the group.
type caller struct {
	Name       string // the certificate's common name, or what agent it is of
	Datacenter string // an agent's; empty for people
	Role       role
}

// callerOf is who calls, as the certificate says, or as the agent says that passed the call on. Whoever calls without TLS
// has every role: plaintext is for loopback, or was asked for.
func callerOf(ctx context.Context, datacenter string) (caller, error) {
	if passedOn, ok := ctx.Value(callerKey{}).(caller); ok {
		return passedOn, nil
	}
	cert, err := certificateOf(ctx)
	if err != nil {
		return caller{}, err
	}
	if cert == nil {
		return caller{Name: "plaintext", Role: roleAdmin}, nil
	}
	c := caller{Name: cert.Subject.CommonName, Role: roleOf(cert, datacenter)}
	if is, err := agentOf(cert); err == nil {
		c.Name, c.Datacenter = cmp.Or(c.Name, is.String()), is.datacenter
	}
	c.Name = cmp.Or(c.Name, cert.Subject.String())
	return c, nil
}

// actorOf is who calls, for the record.
func actorOf(ctx context.Context) (string, error) {
	c, err := callerOf(ctx, "")
	return c.Name, err
}

// callerKey is where trustedCaller puts the caller.
type callerKey struct{}

// metadataCaller is where an agent that passes a call on says for whom. Only the group's own listener looks at it.
const metadataCaller = "ckptferry-caller-bin"

// withCaller says in an outgoing call for whom it is made.
func withCaller(ctx context.Context, c caller) (context.Context, error) {
	said, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("pass the caller on: %w", err)
	}
	return metadata.AppendToOutgoingContext(ctx, metadataCaller, string(said)), nil
}

// trustedCaller takes over what the agent says that passed the call on. Without that the agent calls for itself.
func trustedCaller(ctx context.Context) (context.Context, error) {
	said := metadata.ValueFromIncomingContext(ctx, metadataCaller)
	if len(said) == 0 {
		return ctx, nil
	}
	var c caller
	if err := json.Unmarshal([]byte(said[0]), &c); err != nil || c.Name == "" || len(said) > 1 {
		return nil, fmt.Errorf("%w: for whom the call is made can't be understood", ErrDenied)
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

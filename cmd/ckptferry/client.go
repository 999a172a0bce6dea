package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

const defaultEndpoint = "127.0.0.1:7070"

// clientFlags say which agent is asked, and how it is printed.
type clientFlags struct {
	endpoints string
	timeout   time.Duration
	tls       rpc.TLS
	output    string
}

// register adds them to a command; what is left out comes from the environment.
func (f *clientFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.endpoints, "endpoint", fromEnv("CKPTFERRY_ENDPOINT", defaultEndpoint), "HOST:PORT of an agent, or several with commas: the first that answers ($CKPTFERRY_ENDPOINT)")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	flags.StringVar(&f.tls.CertFile, "cert", os.Getenv("CKPTFERRY_CERT"), "client certificate, PEM ($CKPTFERRY_CERT)")
	flags.StringVar(&f.tls.KeyFile, "key", os.Getenv("CKPTFERRY_KEY"), "its private key ($CKPTFERRY_KEY)")
	flags.StringVar(&f.tls.CAFile, "ca", os.Getenv("CKPTFERRY_CA"), "the CA that signed the agents' certificates ($CKPTFERRY_CA); none of the three: plaintext")
	outputFlag(c, &f.output)
}

func fromEnv(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// check returns the endpoints and how they are dialled; nil is plaintext.
func (f clientFlags) check() ([]string, *rpc.TLS, error) {
	if err := checkOutput(f.output); err != nil {
		return nil, nil, err
	}
	var endpoints []string
	for endpoint := range strings.SplitSeq(f.endpoints, ",") {
		endpoint = strings.TrimSpace(endpoint)
		host, port, err := net.SplitHostPort(endpoint)
		if err != nil || host == "" || port == "" {
			return nil, nil, usageError{fmt.Errorf("--endpoint %q: want HOST:PORT, or several with commas", endpoint)}
		}
		endpoints = append(endpoints, endpoint)
	}
	if f.timeout <= 0 {
		return nil, nil, usageError{fmt.Errorf("--timeout %s: want more than 0", f.timeout)}
	}
	switch f.tls {
	case rpc.TLS{}:
		return endpoints, nil, nil
	default:
		if f.tls.CertFile == "" || f.tls.KeyFile == "" || f.tls.CAFile == "" {
			return nil, nil, usageError{errors.New("--cert, --key and --ca belong together: give all three, or none for plaintext")}
		}
		return endpoints, &f.tls, nil
	}
}

// api is what the commands ask of an agent; *rpc.Client is the product's.
type api interface {
	Lag(ctx context.Context, req *ckptferryv1.GetReplicaLagRequest) (*ckptferryv1.GetReplicaLagResponse, error)
	Replicas(ctx context.Context, req *ckptferryv1.ListReplicasRequest) (*ckptferryv1.ListReplicasResponse, error)
	Routes(ctx context.Context) (*ckptferryv1.ListRoutesResponse, error)
	ApplyRoutes(ctx context.Context, req *ckptferryv1.ApplyRoutesRequest) (*ckptferryv1.ApplyRoutesResponse, error)
	RemoveRoutes(ctx context.Context, req *ckptferryv1.RemoveRoutesRequest) (*ckptferryv1.RemoveRoutesResponse, error)
	Status(ctx context.Context) (*ckptferryv1.GetStatusResponse, error)
	recoveryAPI
}

// recoveryAPI is what they ask when the source is gone, or as if it were.
type recoveryAPI interface {
	keepAPI
	failoverAPI
}

// failoverAPI is what they ask about promotions.
type failoverAPI interface {
	PlanFailover(ctx context.Context, req *ckptferryv1.PlanFailoverRequest) (rpc.FailoverPlan, error)
	RunFailover(ctx context.Context, req *ckptferryv1.RunFailoverRequest) (*ckptferryv1.RunFailoverResponse, error)
	Promotions(ctx context.Context, req *ckptferryv1.ListPromotionsRequest) (*ckptferryv1.ListPromotionsResponse, error)
	AbortFailover(ctx context.Context, req *ckptferryv1.AbortFailoverRequest) (*ckptferryv1.AbortFailoverResponse, error)
	Audit(ctx context.Context, req *ckptferryv1.ListAuditRequest) (*ckptferryv1.ListAuditResponse, error)
}

var _ api = (*rpc.Client)(nil)

// ask lets call talk to the first agent that answers. An agent that can't be reached, or that knows no leader, is
// passed over; any other answer is the answer.
func (f clientFlags) ask(ctx context.Context, call func(ctx context.Context, agent api) error) error {
	endpoints, tls, err := f.check()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	var failed []error
	for i, endpoint := range endpoints {
		err := askOne(ctx, endpoint, tls, len(endpoints)-i, call)
		if !errors.Is(err, rpc.ErrUnavailable) && !errors.Is(err, rpc.ErrNotLeader) {
			return err
		}
		failed = append(failed, fmt.Errorf("%s: %w", endpoint, err))
	}
	return errors.Join(failed...)
}

// askOne asks one of the agents that are left, within its share of the time.
func askOne(ctx context.Context, endpoint string, tls *rpc.TLS, left int, call func(ctx context.Context, agent api) error) error {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	client, err := rpc.DialAPI(ctx, endpoint, tls)
	if err == nil {
		err = call(ctx, client)
		_ = client.Close() // every answer has been read
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time (--timeout): %w", rpc.ErrUnavailable)
	case errors.Is(err, rpc.ErrUnavailable) && tls == nil && strings.Contains(err.Error(), "server preface"):
		// What gRPC says of a server that hangs up on plaintext.
		return fmt.Errorf("%w: it does not talk in plaintext: give --cert, --key and --ca", err)
	}
	return err
}

// printMessage prints an RPC's reply as grpcurl does, so that scripts may use either.
func (a *app) printMessage(m proto.Message) error {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	// protojson varies its white space on purpose; scripts and people want it the same each time.
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	out.WriteByte('\n')
	if _, err := a.out.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// printTable prints rows under a head line, columns aligned.
func (a *app) printTable(head string, rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(strings.Fields(head), "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// noteFreshness warns when the agent that answered has no leader.
func (a *app) noteFreshness(read *ckptferryv1.ReadContext) {
	if read.GetStale() {
		a.note("warning: agent %s knows no leader of its group: this answer may be old", read.GetAgent())
	}
}

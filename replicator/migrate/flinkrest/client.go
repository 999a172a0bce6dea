package flinkrest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// What a caller decides by.
var (
	// ErrUnreachable says that nobody answered, or nobody who could: ask again. What was asked for may have been done.
	ErrUnreachable = errors.New("the JobManager does not answer")
	// ErrNotFound says that the JobManager knows no such job, or no such stop.
	ErrNotFound = errors.New("not known to the JobManager")
	// ErrRefused says that Flink does not do what was asked; asking again doesn't help.
	ErrRefused = errors.New("refused by Flink")
)

// AnswerWithin bounds one call. Flink's own limit for what it asks inside is 10 s (web.timeout).
const AnswerWithin = 15 * time.Second

// maxAnswerBytes bounds an answer: a session cluster with 10,000 jobs lists them in some megabytes.
const maxAnswerBytes = 64 << 20

// Client asks one JobManager. It is safe for concurrent use.
type Client struct {
	base string // without a slash at its end
	http *http.Client
}

// New makes a client for an address as http://host:8081, or https, with a path where a proxy wants one. Nothing is
// asked yet. HTTPS trusts the system's authorities.
func New(address string) (*Client, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("JobManager address %q: %w", address, err)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("JobManager address %q: want http://HOST:PORT, as Flink's web UI has it", address)
	case u.User != nil:
		return nil, fmt.Errorf("JobManager address of %s: it must not hold a user or password, since it is kept in the group's state", u.Host)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // the address is inside of the datacenters; a proxy of the agent's environment is for elsewhere
	return &Client{
		base: strings.TrimRight(address, "/"),
		http: &http.Client{Transport: transport, Timeout: AnswerWithin},
	}, nil
}

// Close lets go of connections that wait for a next call.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is one request; what it asks for is a sentence's middle: "list the jobs".
type call struct {
	what, method, path string
	body               any // nil: none
	into               any // nil: the answer is of no interest
}

func (c *Client) do(ctx context.Context, q call) error {
	wrap := func(err error) error {
		return fmt.Errorf("%s at %s: %w", q.what, c.base, err)
	}
	var body io.Reader
	if q.body != nil {
		raw, err := json.Marshal(q.body)
		if err != nil {
			return wrap(err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, c.base+q.path, body)
	if err != nil {
		return wrap(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return wrap(ctx.Err())
		}
		return wrap(fmt.Errorf("%w: %w", ErrUnreachable, cause(err)))
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode >= 300 {
		return wrap(problem(resp))
	}
	if q.into == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(q.into); err != nil {
		return wrap(fmt.Errorf("%w: its answer is not what Flink's REST API gives (is this Flink's address?): %w", ErrUnreachable, err))
	}
	return nil
}

// cause is what lies below the method and URL that net/http puts in front, which the caller says better.
func cause(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// problem is what an answer that is no success says. Flink's own words come in {"errors": [...]}, with a stack trace
// for the last where it is at fault itself.
func problem(resp *http.Response) error {
	var said struct {
		Errors []string `json:"errors"`
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what can't be read leaves the status alone
	_ = json.Unmarshal(raw, &said)                         // not JSON: a proxy's page
	message := resp.Status
	for _, s := range said.Errors {
		if s = headline(s); s != "" {
			message += ": " + s
		}
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w (%s)", ErrNotFound, message)
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= 500, resp.StatusCode < 400:
		return fmt.Errorf("%w: %s", ErrUnreachable, message)
	}
	return fmt.Errorf("%w: %s", ErrRefused, message)
}

// headline is what a Java stack trace is about: the first line of its innermost cause, cut to what a line can bear.
func headline(trace string) string {
	line := trace
	if at := strings.LastIndex(trace, "\nCaused by: "); at >= 0 {
		line = trace[at+len("\nCaused by: "):]
	}
	line, _, _ = strings.Cut(strings.TrimSpace(line), "\n")
	const most = 400
	if line = strings.TrimSpace(line); len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + "…"
	}
	return line
}

package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds on who asks too much, or too slowly.
const (
	scrapesMost  = 4 // at a time; what is more is told to come again
	scrapeWithin = 10 * time.Second
	stopWithin   = 2 * time.Second
)

// lookEvery is how often it is looked who leads.
const lookEvery = time.Second

// Server answers /metrics, /healthz and /readyz over plain HTTP. It changes nothing, and asks nobody who he is.
type Server struct {
	cfg     Config
	http    *http.Server
	leaders prometheus.Counter
	stop    chan struct{}
	once    sync.Once
}

// NewServer makes the server; Serve runs it.
func NewServer(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, leaders: newLeaderChanges(), stop: make(chan struct{})}
	all := registry(cfg, s.leaders)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{
		Registry: all, MaxRequestsInFlight: scrapesMost, Timeout: scrapeWithin, ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	s.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	return s
}

// healthz says that the process answers. It doesn't ask for a leader: restarting agents would not bring one.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") }

// readyz says whether the agent is of use: it knows a leader of its group.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	leader, _ := s.cfg.Group.Leader()
	if leader == "" {
		answer(w, http.StatusServiceUnavailable, "no leader: a majority of the group's agents must be up and reach each other")
		return
	}
	answer(w, http.StatusOK, "ok, leader "+leader)
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, text) // whoever asked has gone
}

// Serve answers until Stop, and closes the listener.
func (s *Server) Serve(l net.Listener) error {
	var watch sync.WaitGroup
	defer watch.Wait()
	defer s.end()
	watch.Go(s.watchLeader)
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// Stop lets calls that are under way finish, for a bounded time.
func (s *Server) Stop() {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // cut off what is left
	}
}

func (s *Server) end() { s.once.Do(func() { close(s.stop) }) }

// watchLeader counts how often the leader is another one than the last that was known.
func (s *Server) watchLeader() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := ""
	for {
		if leader, _ := s.cfg.Group.Leader(); leader != "" && leader != last {
			if last != "" {
				s.leaders.Inc()
			}
			last = leader
		}
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
	}
}

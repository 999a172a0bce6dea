package node

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/ckptferry/ckptferry/replicator"
)

// ErrConfig says that the configuration names what is no use on this machine: an address, certificate files.
var ErrConfig = errors.New("configuration can't be used")

// isListenError says whether an error is that of opening a listener.
func isListenError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "listen"
}

// listenError says what to do about an address that can't be listened on. One that is taken is refused, any other is
// a mistake in the configuration (key) or, for a low port, a lack of permission.
func listenError(key, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: %s %s is in use: another agent or program listens there. End that one, or give this agent another address", replicator.ErrRefused, key, addr)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s %s: %w", key, addr, err)
	default:
		return fmt.Errorf("%w: %s %s: this machine can't listen there (%w): name one of its own addresses", ErrConfig, key, addr, err)
	}
}

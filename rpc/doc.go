// Package rpc carries what agents and people say to each other over gRPC.
//
// It owns the two servers of an agent (NewAPI for people and tools, NewPeerServer for the agents of other datacenters),
// the two clients (DialPeer, DialAPI), the tables that turn Go errors into status codes and back, and TLS. It is the
// only package that knows gRPC; what it is given and what it gives are the interfaces and errors of the domain.
//
// It must never answer a peer with anything that is not exported to the peer's datacenter (jail.go), never end a file
// that was not delivered whole with io.EOF (fetch_reader.go), and never let a caller's bytes make it panic.
//
// Start at ServerConfig and Peer.
package rpc

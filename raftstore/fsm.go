package raftstore

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
)

// fsm is the glue between the Raft library and State. It decodes, and fails closed.
type fsm struct {
	mu      sync.RWMutex
	state   State
	applied uint64        // log index of the last command in state
	refused error         // why the last Restore failed; the library keeps that to itself
	changed chan struct{} // closed at the next change; nil as long as nobody waits
}

var _ raft.FSM = (*fsm)(nil)

func newFSM() *fsm { return &fsm{state: newState()} }

// Apply returns nil or the sentinel that refused the command. It panics, and so stops the node, on an entry that
// this version doesn't understand: a node that skipped it would drift apart from the others without a sign.
func (f *fsm) Apply(l *raft.Log) any {
	var cmd raftv1.Command
	if err := proto.Unmarshal(l.Data, &cmd); err != nil {
		panic(fmt.Sprintf("raftstore: log %d does not decode, stopping this node before it differs from the others: %v", l.Index, err))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := errUnknownCommand
	if !hasUnknownFields(cmd.ProtoReflect()) {
		err = f.state.apply(&cmd)
	}
	if errors.Is(err, errUnknownCommand) {
		panic(fmt.Sprintf("raftstore: log %d holds a command that format %d doesn't know, stopping this node before it "+
			"differs from the others: install the version that the group's leader runs", l.Index, formatVersion))
	}
	f.applied = l.Index
	f.wake()
	if err != nil {
		return err
	}
	return nil
}

// Snapshot is quick: the state's trees don't change. Persist encodes.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	view := f.view()
	return &fsmSnapshot{state: view.state, applied: view.AppliedIndex}, nil
}

// Restore replaces the state. On an error the state is as before.
func (f *fsm) Restore(from io.ReadCloser) error {
	b, err := io.ReadAll(from)
	if err := errors.Join(err, from.Close()); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	state, applied, err := decodeSnapshot(b)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = err
	if err != nil {
		return err
	}
	f.state, f.applied = state, applied
	f.wake()
	return nil
}

// wake tells those who wait for a change. The caller holds f.mu.
func (f *fsm) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// next is closed when the state is another one than now.
func (f *fsm) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

func (f *fsm) view() View {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return View{AppliedIndex: f.applied, state: f.state}
}

type fsmSnapshot struct {
	state   State
	applied uint64
}

func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	b, err := encodeSnapshot(s.state, s.applied)
	if err == nil {
		_, err = sink.Write(b)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("persist snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

func (s *fsmSnapshot) Release() {}

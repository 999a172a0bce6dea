package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	ckptferryv1 "github.com/ckptferry/ckptferry/proto/ckptferry/v1"
	"github.com/ckptferry/ckptferry/rpc"
)

// votersAPI is what the commands about the group ask of an agent.
type votersAPI interface {
	AddVoter(ctx context.Context, id, address string) (*ckptferryv1.AddVoterResponse, error)
	RemoveVoter(ctx context.Context, id string) (*ckptferryv1.RemoveVoterResponse, error)
	TransferLeadership(ctx context.Context, id string) (*ckptferryv1.TransferLeadershipResponse, error)
}

func (a *app) raftCommand() *cobra.Command {
	c := &cobra.Command{Use: "raft", Short: "The Raft group of a datacenter", Args: cobra.NoArgs, RunE: needSubcommand}
	c.AddCommand(a.raftStatusCommand(), a.raftAddCommand(), a.raftRemoveCommand(), a.raftTransferCommand())
	return c
}

func (a *app) raftStatusCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "The voters, the leader, and who is heard of; exit code 4 without a leader",
		Long: `The voters, the leader, and which agents the leader hears of.
The leader is asked if one of the endpoints is its; another agent can't tell who is dead.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := f.leadersStatus(cmd.Context())
			if err != nil {
				return err
			}
			if f.output == "json" {
				err = a.printMessage(raftPart(status))
			} else {
				err = a.printVoters(status)
			}
			if err == nil && status.GetLeader() == "" {
				return fmt.Errorf("agent %s knows no leader: a majority of the voters must be up and reach each other: %w", status.GetAgent(), rpc.ErrUnavailable)
			}
			return err
		},
	}
	f.register(c)
	return c
}

// leadersStatus is the leader's status if one of the endpoints is the leader's, else that of the first agent that answers.
func (f clientFlags) leadersStatus(ctx context.Context) (*ckptferryv1.GetStatusResponse, error) {
	var first *ckptferryv1.GetStatusResponse
	err := f.ask(ctx, func(ctx context.Context, agent api) error {
		status, err := agent.Status(ctx)
		if err != nil {
			return err
		}
		leads := status.GetLeader() == status.GetAgent()
		if first == nil || leads {
			first = status
		}
		if !leads {
			return rpc.ErrNotLeader // the next one may be
		}
		return nil
	})
	if first != nil {
		return first, nil
	}
	return nil, err
}

// raftPart leaves of a status what is about the group.
func raftPart(s *ckptferryv1.GetStatusResponse) *ckptferryv1.GetStatusResponse {
	return &ckptferryv1.GetStatusResponse{
		Agent: s.GetAgent(), Datacenter: s.GetDatacenter(), Version: s.GetVersion(), Leader: s.GetLeader(),
		RaftState: s.GetRaftState(), Voters: s.GetVoters(), Read: s.GetRead(), Members: s.GetMembers(), RaftTerm: s.RaftTerm,
	}
}

func (a *app) printVoters(s *ckptferryv1.GetStatusResponse) error {
	a.note("raft term %d, as agent %s sees it", s.GetRaftTerm(), s.GetAgent())
	now := s.GetRead().GetReadTime().AsTime()
	members := map[string]*ckptferryv1.Member{}
	for _, m := range s.GetMembers() {
		members[m.GetAgent()] = m
	}
	var rows [][]string
	for _, v := range s.GetVoters() {
		m := members[v.GetId()]
		rows = append(rows, []string{v.GetId(), orDash(v.GetAddress()), voterRole(s, v, m), heardCell(s, m, now), orDash(m.GetVersion())})
	}
	return a.printTable("AGENT ADDRESS ROLE HEARD VERSION", rows)
}

// voterRole is what a voter is: a dead one must not look like a follower.
func voterRole(s *ckptferryv1.GetStatusResponse, v *ckptferryv1.Voter, m *ckptferryv1.Member) string {
	switch {
	case v.GetLeader():
		return "leader"
	case v.GetId() == s.GetAgent():
		return s.GetRaftState()
	case m == nil:
		return "unknown"
	case !m.GetLive():
		return "dead"
	default:
		return "follower"
	}
}

func heardCell(s *ckptferryv1.GetStatusResponse, m *ckptferryv1.Member, now time.Time) string {
	switch {
	case m == nil || m.GetAgent() == s.GetAgent():
		return "-"
	case m.GetHeardTime() == nil:
		return "never"
	default:
		return ago(now, m.GetHeardTime().AsTime())
	}
}

func (a *app) raftAddCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use: "add-voter ID HOST:PORT", Short: "Let an agent into the group, or give it another address", Args: cobra.ExactArgs(2),
		Long: `Let an agent into the group. Start it before, on an empty data directory and with raft.join: true.
An agent that can't be reached is refused: it would count for the majority and never answer. Doing it twice is doing it once.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer *ckptferryv1.AddVoterResponse
			err := f.askVoters(cmd.Context(), func(ctx context.Context, agent votersAPI) (err error) {
				answer, err = agent.AddVoter(ctx, args[0], args[1])
				return err
			})
			if err != nil {
				return err
			}
			if f.output == "json" {
				return a.printMessage(answer)
			}
			return a.printMembership(answer.GetVoters())
		},
	}
	f.register(c)
	return c
}

func (a *app) raftRemoveCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use: "remove-voter ID", Short: "Take an agent out of the group", Args: cobra.ExactArgs(1),
		Long: `Take an agent out of the group, one that is gone or is to go. Stop it for good then: what it holds is as old as its
removal. To have it back, empty its data directory, set raft.join and add it. Doing it twice is doing it once.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var answer *ckptferryv1.RemoveVoterResponse
			err := f.askVoters(cmd.Context(), func(ctx context.Context, agent votersAPI) (err error) {
				answer, err = agent.RemoveVoter(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			if f.output == "json" {
				return a.printMessage(answer)
			}
			return a.printMembership(answer.GetVoters())
		},
	}
	f.register(c)
	return c
}

func (a *app) raftTransferCommand() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use: "transfer-leader [ID]", Short: "Have another agent lead, before the leader's machine is taken down", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			var answer *ckptferryv1.TransferLeadershipResponse
			err := f.askVoters(cmd.Context(), func(ctx context.Context, agent votersAPI) (err error) {
				answer, err = agent.TransferLeadership(ctx, id)
				return err
			})
			if err != nil {
				return err
			}
			if f.output == "json" {
				return a.printMessage(answer)
			}
			return a.printTable("LEADER", [][]string{{answer.GetLeader()}})
		},
	}
	f.register(c)
	return c
}

func (a *app) printMembership(voters []*ckptferryv1.Voter) error {
	var rows [][]string
	for _, v := range voters {
		role := "voter"
		if v.GetLeader() {
			role = "leader"
		}
		rows = append(rows, []string{v.GetId(), orDash(v.GetAddress()), role})
	}
	return a.printTable("AGENT ADDRESS ROLE", rows)
}

// askVoters is ask for what changes the group.
func (f clientFlags) askVoters(ctx context.Context, call func(ctx context.Context, agent votersAPI) error) error {
	return f.ask(ctx, func(ctx context.Context, agent api) error {
		voters, ok := agent.(votersAPI)
		if !ok {
			return errors.New("this client can't change who belongs to a group")
		}
		return call(ctx, voters)
	})
}

var _ votersAPI = (*rpc.Client)(nil)

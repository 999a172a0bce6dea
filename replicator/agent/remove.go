package agent

import (
	"context"
	"fmt"

	raftv1 "github.com/ckptferry/ckptferry/proto/ckptferry/raft/v1"
	"github.com/ckptferry/ckptferry/raftstore"
)

// RemoveRoutes forgets exports and routes by their names. Replicas stay, on the storage and on record. One that isn't
// there is done already. A route that copies is raftstore.ErrRouteBusy: pause it, and remove it when its copies have ended. So is one that jobs go on here from.
// changes has a line for each. With dryRun nothing is changed, and what is busy is refused too. It is idempotent:
// after an error in the middle of the changes, which are returned beside it as far as they were made, do it again.
func RemoveRoutes(ctx context.Context, group Group, exports, routes []string, dryRun bool) (changes []string, err error) {
	view := group.View()
	for _, name := range routes { // before anything is changed
		if err := mayRemove(view, name); err != nil {
			return nil, err
		}
	}
	remove := func(what, name, then string, known bool, cmd *raftv1.Command) error {
		line := fmt.Sprintf("%s %s: not there", what, name)
		if known {
			line = fmt.Sprintf("%s %s: removed%s", what, name, then)
		}
		if known && !dryRun {
			if err := group.Propose(ctx, cmd); err != nil {
				return fmt.Errorf("remove %s %s: %w", what, name, err)
			}
		}
		changes = append(changes, line)
		return nil
	}
	for _, name := range exports {
		_, known := view.Export(name)
		err := remove("export", name, ", nobody reads it any longer", known, &raftv1.Command{Op: &raftv1.Command_RemoveExport{RemoveExport: &raftv1.RemoveExport{Export: name}}})
		if err != nil {
			return changes, err
		}
	}
	for _, name := range routes {
		_, known := view.Route(name)
		count := 0
		for range view.RouteReplicas(name) {
			count++
		}
		err := remove("route", name, fmt.Sprintf(", %d replicas stay on record", count), known,
			&raftv1.Command{Op: &raftv1.Command_RemoveRoute{RemoveRoute: &raftv1.RemoveRoute{Route: name}}})
		if err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// mayRemove refuses what the group will refuse.
func mayRemove(view raftstore.View, route string) error {
	if _, known := view.Route(route); !known {
		return nil
	}
	for r := range view.RouteReplicas(route) {
		if inFlight(r) {
			return fmt.Errorf("remove route %s: %w: %s of job %s is %s; pause the route, and remove it when its copies have ended", route, raftstore.ErrRouteBusy, r.Key, r.Job, r.Status)
		}
	}
	active := 0
	for p := range view.RoutePromotions(route) {
		if p.State == raftstore.PromotionActive {
			active++
		}
	}
	if active > 0 {
		return fmt.Errorf("remove: %w", raftstore.PromotedFrom(route, active))
	}
	return nil
}

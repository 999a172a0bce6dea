package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/ckptferry/ckptferry/rpc"
)

// scriptHead is what each script begins with. A job is noted before Flink is asked: an attached flink ends with its job, and
// one that failed may have submitted it, so what is not known to have failed before must not be started a second time.
const scriptHead = `set -eu
JOBS=${JOBS:-jobs}
STARTED=${STARTED:-$0.started}
start() {
  job=$1
  key="$2/$1 epoch $3"
  shift 3
  if [ -e "$STARTED" ] && grep -Fqx -e "$key" "$STARTED"; then
    echo "$job was started before, as $STARTED says: skipped. If it does not run, delete its line there: $key" >&2
    return 0
  fi
  if [ ! -f "$JOBS/$job.args" ] || [ ! -r "$JOBS/$job.args" ]; then
    echo "$job is not started: $JOBS/$job.args can't be read. Write the jar and its arguments there, and run this script again" >&2
    exit 1
  fi
  # shellcheck disable=SC2046 # the words of the file are the arguments
  set -- "$@" $(cat "$JOBS/$job.args")
  if [ -n "${DRY_RUN:-}" ]; then
    echo "$@"
    return 0
  fi
  echo "starting $job" >&2
  printf '%s\n' "$key" >> "$STARTED"
  "$@" || {
    code=$?
    echo "$job: flink ended with $code. Look whether the job runs. If it does not, delete its line in $STARTED and run this script again: $key" >&2
    exit "$code"
  }
}
`

// planScript is a shell script that starts the promoted jobs of a plan, in its order. The others may run elsewhere, so they
// stand in it as comments.
func planScript(plan rpc.FailoverPlan) string {
	var b strings.Builder
	comment := func(format string, args ...any) {
		fmt.Fprintf(&b, "# %s\n", strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
	}
	b.WriteString("#!/bin/sh\n")
	comment("Starts Flink jobs from their replicas: plan %s of %s, by agent %s.", plan.ID, plan.Read.GetReadTime().AsTime().UTC().Format(time.RFC3339), plan.Read.GetAgent())
	comment("Run it with sh, do not source it. Jobs are in the order of their routes' priorities; a failure stops it.")
	comment("It starts only what `ckptferry failover run` has promoted, and each job once: what was started stands in $STARTED, the script's name with .started.")
	comment("What follows `flink run -s …` (the jar and its arguments) is read for each job from $JOBS/<job>.args. DRY_RUN=1 prints the commands and starts nothing.")
	b.WriteString(scriptHead)
	promoted := 0
	for _, i := range plan.Items {
		b.WriteString("\n")
		reason := i.GetBlocked()
		if reason == "" && !i.GetPromoted() {
			reason = "not promoted: run the plan first"
		}
		if reason != "" {
			comment("%s (route %s): NOT STARTED: %s", i.GetJob(), i.GetRoute(), reason)
		} else {
			comment("%s (route %s): chk-%d, RPO %s, lost: %s", i.GetJob(), i.GetRoute(), i.GetKey().GetCheckpointId(), durationCell(i.GetRpo()), lostCell(i.GetLostCheckpoints()))
		}
		for _, w := range i.GetWarnings() {
			comment("  %s", w)
		}
		line := fmt.Sprintf("start %s %s %d %s", shellWord(i.GetJob()), shellWord(i.GetRoute()), i.GetEpoch(), i.GetStart().GetRun())
		switch {
		case reason == "":
			promoted++
			b.WriteString(line + "\n")
		case i.GetStart().GetRun() != "":
			comment("  %s", line)
		}
	}
	if promoted == 0 {
		b.WriteString("\necho 'nothing in this script is promoted, so it starts nothing: carry out the plan with `ckptferry failover run`, then make the script again' >&2\nexit 1\n")
	}
	return b.String()
}

// shellWord quotes what a shell would not take as one plain word.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:._-+@%=,"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

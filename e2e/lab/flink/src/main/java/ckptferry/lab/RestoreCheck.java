package ckptferry.lab;

import java.nio.file.Paths;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.node.MissingNode;

/**
 * restore-check: start the job from a checkpoint or savepoint, let it run on by --more elements, and compare all state
 * with what it must be: keyed, broadcast, list and union state, the position of the FLIP-27 source, the master state,
 * every timer exactly once; and see that it takes further checkpoints.
 */
final class RestoreCheck {
    private static final Pattern CHECKPOINT = Pattern.compile(".*/chk-(\\d+)(/_metadata)?/?");

    private final Options options;
    private final String path;
    private int wrong;

    private RestoreCheck(Options options) {
        this.options = options;
        this.path = options.required("path");
    }

    static int run(Options o) {
        RestoreCheck check = new RestoreCheck(o);
        try {
            check.check();
        } catch (Throwable e) {
            e.printStackTrace(System.out);
            System.out.println("RESTORE-CHECK FAILED (" + RunningJob.root(e) + ")");
            return 1;
        }
        System.out.println(check.wrong == 0 ? "RESTORE-CHECK OK" : "RESTORE-CHECK FAILED");
        return check.wrong == 0 ? 0 : 1;
    }

    private void check() throws Exception {
        JsonNode ledger = options.has("ledger") ? Ledger.read(Paths.get(options.text("ledger", null))) : MissingNode.getInstance();
        JobParams p = JobParams.of(options);
        Ledger.apply(ledger, p);
        p.target += options.number("more", 5000);
        String mode = options.text("mode", "NO_CLAIM");
        Configuration conf = FlinkConf.of(options);
        FlinkConf.restoreFrom(conf, path, mode);
        RunningJob job = RunningJob.start(conf, p, options.required("dir"));
        System.out.println("restored job " + job.client.getJobID() + " mode " + mode + " from " + path + " -> " + job.directory.path);

        wrong += job.verifyState(options.number("timeout", 60));
        checkOffsets(ledger, p);
        checkSideBranch(p);
        checkMasterState(p);
        awaitCheckpoints(job, options.number("checkpoints", 3));
        // before the timers fire: a checkpoint taken after that has none left for the next restore to check
        Map<String, Object> after = Ledger.of(job, new HashMap<>());
        if (options.yes("timers", true)) checkTimers(p);
        if (!options.yes("halt", false)) job.cancel();
        if (options.has("ledger-out")) Json.write(Paths.get(options.text("ledger-out", null)), after);
        if (wrong == 0) System.out.print(Json.pretty(after));
    }

    /** The sources start where the checkpoint left them (a savepoint's offsets are not in the ledger). */
    private void checkOffsets(JsonNode ledger, JobParams p) {
        System.out.println("restored source offsets " + new TreeMap<>(SideChannel.RESTORED));
        if (SideChannel.RESTORED.size() != p.parallelism) fault("source state of " + SideChannel.RESTORED.size() + " of " + p.parallelism + " subtasks");
        Matcher m = CHECKPOINT.matcher(path);
        if (!m.matches()) return;
        List<Long> want = Ledger.offsets(ledger, Long.parseLong(m.group(1)));
        for (int i = 0; i < want.size(); i++) {
            Long got = SideChannel.RESTORED.get(i);
            if (!want.get(i).equals(got)) fault("offset of source subtask " + i + ": want " + want.get(i) + ", got " + got);
        }
    }

    /** The FLIP-27 source goes on in every split: neither reader nor coordinator began anew. */
    private void checkSideBranch(JobParams p) throws InterruptedException {
        if (!p.extras) return;
        Map<Integer, Long> first = SideChannel.SEQUENCE_FIRST;
        if (p.finite) {
            if (!first.isEmpty()) fault("the finished source emitted again: " + first);
            return;
        }
        long[] starts = SideBranch.splitStarts(p);
        long deadline = System.currentTimeMillis() + 10_000;
        while (first.size() < starts.length && System.currentTimeMillis() < deadline) Thread.sleep(50);
        for (int i = 0; i < starts.length; i++) {
            Long got = first.get(i);
            if (got == null) fault("split " + i + " of the FLIP-27 source is lost");
            else if (got <= starts[i]) fault("split " + i + " of the FLIP-27 source began anew at " + got);
        }
    }

    private void checkMasterState(JobParams p) {
        if (!p.masterHook) return;
        Matcher m = CHECKPOINT.matcher(path);
        String want = m.matches() ? MasterHook.stateOf(Long.parseLong(m.group(1))) : "hook@";
        String got = SideChannel.restoredHook;
        if (got == null || !(m.matches() ? got.equals(want) : got.startsWith(want))) fault("master state: want " + want + ", got " + got);
    }

    private void awaitCheckpoints(RunningJob job, int want) throws Exception {
        long deadline = System.currentTimeMillis() + 60_000;
        long first = -1;
        while (want > 0) {
            job.requireRunning();
            TreeMap<Long, String> done = job.directory.completed();
            if (first < 0 && !done.isEmpty()) first = done.firstKey();
            if (first >= 0 && !done.isEmpty() && done.lastKey() >= first + want - 1) return;
            if (System.currentTimeMillis() > deadline) {
                fault("no further checkpoints within a minute");
                return;
            }
            Thread.sleep(50);
        }
    }

    private void checkTimers(JobParams p) throws InterruptedException {
        SideChannel.fireTimers = true;
        long want = ExpectedState.timers(p);
        long deadline = System.currentTimeMillis() + 20_000;
        while (SideChannel.TIMERS.size() < want && System.currentTimeMillis() < deadline) Thread.sleep(50);
        long twice = SideChannel.TIMERS.values().stream().filter(n -> n != 1).count();
        System.out.println("timers fired " + SideChannel.TIMERS.size() + " of " + want + ", more than once " + twice);
        if (SideChannel.TIMERS.size() != want || twice > 0) fault("timers");
    }

    private void fault(String what) {
        System.out.println("WRONG " + what);
        wrong++;
    }
}

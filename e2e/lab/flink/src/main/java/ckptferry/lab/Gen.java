package ckptferry.lab;

import java.nio.file.Paths;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;

/** gen: run the job, take checkpoints (and savepoints), stop it, write the ledger. */
final class Gen {
    static int run(Options o) throws Exception {
        JobParams p = JobParams.of(o);
        RunningJob job = RunningJob.start(FlinkConf.of(o), p, o.required("dir"));
        System.out.println("job " + job.client.getJobID() + " -> " + job.directory.path);
        boolean quiesce = o.yes("quiesce", true);
        if (!await(job, o.number("checkpoints", 5), quiesce, o.number("timeout", 120))) {
            System.out.println("GEN FAILED: the checkpoints did not come in time");
            return 1;
        }
        if (quiesce && job.verifyState(60) > 0) {
            System.out.println("GEN FAILED: the job's own state is not what it should be");
            return 1;
        }
        Map<String, String> savepoints = new LinkedHashMap<>();
        if (o.has("savepoint-dir")) {
            for (String format : o.text("savepoint-format", "CANONICAL").split(",")) {
                savepoints.put(format, job.savepoint(o.text("savepoint-dir", null), format));
                System.out.println("savepoint " + format + " " + savepoints.get(format));
            }
        }
        if (o.yes("fail", false)) job.fail();
        else if (!o.yes("halt", false)) job.cancel(); // halt: die as in a lost datacenter
        Map<String, Object> ledger = Ledger.of(job, savepoints);
        if (o.has("ledger")) Json.write(Paths.get(o.text("ledger", null)), ledger);
        System.out.print(Json.pretty(ledger));
        return 0;
    }

    /** Waits for {@code want} checkpoints in all, and with quiesce for one that was taken after the last element. */
    private static boolean await(RunningJob job, int want, boolean quiesce, int timeoutSeconds) throws Exception {
        long deadline = System.currentTimeMillis() + timeoutSeconds * 1000L;
        while (System.currentTimeMillis() < deadline) {
            job.requireRunning();
            TreeMap<Long, String> done = job.directory.completed();
            if (!done.isEmpty() && done.lastKey() >= want) {
                long[] offsets = SideChannel.SNAPSHOTS.get(done.lastKey());
                if (!quiesce || (offsets != null && Arrays.stream(offsets).sum() == job.params.target)) return true;
            }
            Thread.sleep(20);
        }
        return false;
    }

    private Gen() {}
}

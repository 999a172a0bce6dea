package ckptferry.lab;

import java.lang.reflect.Method;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** A lab job in a MiniCluster of this JVM. */
final class RunningJob {
    final JobClient client;
    final JobParams params;
    final JobDirectory directory;

    private RunningJob(JobClient client, JobParams params, JobDirectory directory) {
        this.client = client;
        this.params = params;
        this.directory = directory;
    }

    static RunningJob start(Configuration c, JobParams p, String checkpointDir) throws Exception {
        FileSystem.initialize(c, null);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(c);
        LabJob.build(env, p);
        JobClient client = env.executeAsync("ckptferry-lab");
        return new RunningJob(client, p, new JobDirectory(checkpointDir, client.getJobID().toString()));
    }

    /** Throws with the job's own failure when it is over. */
    void requireRunning() {
        JobStatus status;
        try {
            status = client.getJobStatus().get();
        } catch (Exception e) {
            status = JobStatus.FAILED; // the MiniCluster is already gone
        }
        if (!status.isTerminalState()) return;
        try {
            client.getJobExecutionResult().get();
        } catch (Exception e) {
            throw new IllegalStateException("job " + status + ": " + root(e), e);
        }
        throw new IllegalStateException("job " + status);
    }

    /**
     * Probes until all state is as expected, twice in a row: a run that processed elements twice could pass by the
     * right state once. Returns how many entries are wrong at the deadline.
     */
    int verifyState(int timeoutSeconds) throws Exception {
        Map<String, String> expected = ExpectedState.of(params);
        long deadline = System.currentTimeMillis() + timeoutSeconds * 1000L;
        SideChannel.probe = true;
        int right = 0;
        int wrong;
        while (true) {
            Thread.sleep(200);
            requireRunning();
            wrong = 0;
            String first = null;
            for (Map.Entry<String, String> e : expected.entrySet()) {
                String got = SideChannel.RESULTS.get(e.getKey());
                if (e.getValue().equals(got)) continue;
                if (wrong++ == 0) first = e.getKey() + ": want " + e.getValue() + ", got " + got;
            }
            if (wrong == 0 && ++right == 2) break;
            if (wrong == 0) SideChannel.RESULTS.clear();
            if (System.currentTimeMillis() > deadline) {
                if (wrong == 0) wrong = expected.size(); // right once, and no second round of probes came
                System.out.println("MISMATCH " + wrong + " of " + expected.size() + ", first " + first);
                break;
            }
        }
        SideChannel.probe = false;
        return wrong;
    }

    /** Takes a savepoint and returns its URI. Reflection: triggerSavepoint got a format in 1.15. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    String savepoint(String dir, String format) throws Exception {
        Method plain = null;
        for (Method m : JobClient.class.getMethods()) {
            if (!m.getName().equals("triggerSavepoint")) continue;
            if (m.getParameterCount() == 2) {
                Class type = Class.forName("org.apache.flink.core.execution.SavepointFormatType");
                return (String) ((Future<?>) m.invoke(client, dir, Enum.valueOf(type, format))).get();
            }
            if (m.getParameterCount() == 1) plain = m;
        }
        if (plain == null) throw new IllegalStateException("this Flink's JobClient has no triggerSavepoint");
        return (String) ((Future<?>) plain.invoke(client, dir)).get();
    }

    void cancel() throws Exception {
        client.cancel().get();
        try {
            while (!client.getJobStatus().get().isGloballyTerminalState()) Thread.sleep(50);
        } catch (Exception e) {
            // the MiniCluster is gone: the job is over
        }
        Thread.sleep(500); // its I/O pool may still discard subsumed checkpoints
    }

    /** Makes the job fail and waits until it has. */
    void fail() throws InterruptedException {
        SideChannel.fail = true;
        try {
            client.getJobExecutionResult().get();
        } catch (Exception e) {
            System.out.println("job ended: " + root(e));
        }
        Thread.sleep(1500);
    }

    static Throwable root(Throwable e) {
        while (e.getCause() != null && e.getCause() != e) e = e.getCause();
        return e;
    }
}

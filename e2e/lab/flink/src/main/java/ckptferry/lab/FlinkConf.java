package ckptferry.lab;

import org.apache.flink.configuration.Configuration;

/** Flink's configuration of a lab run. Options that Flink has renamed are set under the old and the new key. */
final class FlinkConf {
    static Configuration of(Options o) {
        Configuration c = new Configuration();
        String threshold = o.text("memory-threshold", "1kb");
        String retained = o.text("retained", "3");
        String[] pairs = {
            "state.backend", "rocksdb", "state.backend.type", "rocksdb",
            "state.backend.incremental", "true", "execution.checkpointing.incremental", "true",
            "state.backend.rocksdb.writebuffer.size", "1mb",
            "execution.checkpointing.interval", o.text("interval", "1000"),
            "execution.checkpointing.mode", "EXACTLY_ONCE",
            "execution.checkpointing.timeout", "60s",
            "execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION",
            "execution.checkpointing.checkpoints-after-tasks-finish.enabled", "true",
            "state.checkpoints.num-retained", retained, "execution.checkpointing.num-retained", retained,
            "state.storage.fs.memory-threshold", threshold, "execution.checkpointing.data-inline-threshold", threshold,
            "restart-strategy", "none", "restart-strategy.type", "none",
            "taskmanager.memory.managed.size", "256m",
            "taskmanager.memory.network.min", "64m", "taskmanager.memory.network.max", "64m",
            "taskmanager.numberOfTaskSlots", "8",
            "rest.bind-port", "0", "rest.address", "127.0.0.1", "rest.bind-address", "127.0.0.1",
            "jobmanager.bind-host", "127.0.0.1", "taskmanager.bind-host", "127.0.0.1"};
        for (int i = 0; i < pairs.length; i += 2) c.setString(pairs[i], pairs[i + 1]);
        if (o.has("dir")) {
            c.setString("state.checkpoints.dir", o.text("dir", null));
            c.setString("execution.checkpointing.dir", o.text("dir", null));
            c.setString("state.checkpoint-storage", "filesystem");
            c.setString("execution.checkpointing.storage", "filesystem");
        }
        for (String pair : o.all("conf")) {
            int eq = pair.indexOf('=');
            if (eq < 0) throw new IllegalArgumentException("--conf " + pair + ": want key=value");
            c.setString(pair.substring(0, eq), pair.substring(eq + 1));
        }
        return c;
    }

    static void restoreFrom(Configuration c, String path, String mode) {
        c.setString("execution.savepoint.path", path);
        c.setString("execution.state-recovery.path", path);
        c.setString("execution.savepoint-restore-mode", mode);
        c.setString("execution.state-recovery.claim-mode", mode);
    }

    private FlinkConf() {}
}

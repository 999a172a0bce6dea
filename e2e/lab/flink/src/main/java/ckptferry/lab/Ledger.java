package ckptferry.lab;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;

/** What a run did: its parameters, its checkpoints (oldest first) with the sources' offsets, its savepoints. */
final class Ledger {
    static Map<String, Object> of(RunningJob job, Map<String, String> savepoints) throws IOException {
        JobParams p = job.params;
        Map<String, Object> params = new LinkedHashMap<>();
        params.put("keys", p.keys);
        params.put("payload", p.payload);
        params.put("parallelism", p.parallelism);
        params.put("target", p.target);
        params.put("finite", p.finite);
        params.put("extras", p.extras);
        params.put("masterHook", p.masterHook);
        List<Object> checkpoints = new ArrayList<>();
        for (Map.Entry<Long, String> e : job.directory.completed().entrySet()) {
            long[] offsets = SideChannel.SNAPSHOTS.get(e.getKey());
            Map<String, Object> c = new LinkedHashMap<>();
            c.put("id", e.getKey());
            c.put("path", e.getValue());
            c.put("offsets", offsets);
            c.put("emitted", offsets == null ? null : Arrays.stream(offsets).sum());
            checkpoints.add(c);
        }
        Map<String, Object> ledger = new LinkedHashMap<>();
        ledger.put("flinkVersion", EnvironmentInformation.getVersion());
        ledger.put("jobId", job.client.getJobID().toString());
        ledger.put("jobDir", job.directory.path.toString());
        ledger.put("params", params);
        ledger.put("checkpoints", checkpoints);
        if (!savepoints.isEmpty()) ledger.put("savepoints", savepoints);
        return ledger;
    }

    static JsonNode read(Path file) throws IOException {
        return Json.read(file);
    }

    /** Takes over what the state is a function of. */
    static void apply(JsonNode ledger, JobParams p) {
        JsonNode q = ledger.path("params");
        p.keys = q.path("keys").asInt(p.keys);
        p.payload = q.path("payload").asInt(p.payload);
        p.parallelism = q.path("parallelism").asInt(p.parallelism);
        p.target = q.path("target").asLong(p.target);
        p.finite = q.path("finite").asBoolean(p.finite);
        p.extras = q.path("extras").asBoolean(p.extras);
        p.masterHook = q.path("masterHook").asBoolean(p.masterHook);
    }

    /** The offset of each source subtask in that checkpoint; empty when the ledger does not say. */
    static List<Long> offsets(JsonNode ledger, long checkpoint) {
        List<Long> offsets = new ArrayList<>();
        for (JsonNode c : ledger.path("checkpoints")) {
            if (c.path("id").asLong(-1) != checkpoint) continue;
            for (JsonNode n : c.path("offsets")) offsets.add(n.asLong());
        }
        return offsets;
    }

    private Ledger() {}
}

package ckptferry.lab;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.core.fs.Path;
import org.apache.flink.runtime.checkpoint.Checkpoints;
import org.apache.flink.runtime.checkpoint.metadata.CheckpointMetadata;
import org.apache.flink.runtime.util.EnvironmentInformation;

/**
 * bench-metadata FILE N: Flink's own loader and serializer on one _metadata, bytes to bytes in memory. N rounds warm the
 * JVM up, N are measured; times in milliseconds.
 */
final class BenchMetadata {
    static int run(Options o) throws Exception {
        java.nio.file.Path file = Paths.get(o.positional.get(0));
        int rounds = Integer.parseInt(o.positional.get(1));
        byte[] bytes = Files.readAllBytes(file);
        String pointer = new Path(file.toUri()).getParent().toString();
        double[] load = new double[2 * rounds];
        double[] store = new double[2 * rounds];
        int stored = 0;
        for (int i = 0; i < 2 * rounds; i++) {
            long t0 = System.nanoTime();
            CheckpointMetadata m = Checkpoints.loadCheckpointMetadata(new DataInputStream(new ByteArrayInputStream(bytes)), BenchMetadata.class.getClassLoader(), pointer);
            long t1 = System.nanoTime();
            ByteArrayOutputStream out = new ByteArrayOutputStream(bytes.length + 1024);
            Checkpoints.storeCheckpointMetadata(m, out);
            long t2 = System.nanoTime();
            load[i] = (t1 - t0) / 1e6;
            store[i] = (t2 - t1) / 1e6;
            stored = out.size();
        }
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("flink", EnvironmentInformation.getVersion());
        line.put("file_bytes", bytes.length);
        line.put("stored_bytes", stored);
        line.put("rounds", rounds);
        line.put("first_load_ms", load[0]);
        line.put("first_store_ms", store[0]);
        line.put("load_ms", median(load, rounds));
        line.put("store_ms", median(store, rounds));
        System.out.println(Json.line(line));
        return 0;
    }

    /** Of the values from index {@code from} on. */
    private static double median(double[] values, int from) {
        double[] v = Arrays.copyOfRange(values, from, values.length);
        Arrays.sort(v);
        return v.length % 2 == 1 ? v[v.length / 2] : (v[v.length / 2 - 1] + v[v.length / 2]) / 2;
    }

    private BenchMetadata() {}
}

package ckptferry.lab;

import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;

/** What the probes must report once [0, target) has been processed exactly once. */
final class ExpectedState {
    static Map<String, String> of(JobParams p) {
        long[] count = new long[p.keys];
        long[] sum = new long[p.keys];
        Map<Integer, TreeMap<Integer, Long>> maps = new TreeMap<>();
        TreeMap<String, Long> rules = new TreeMap<>();
        for (long n = 0; n < p.target; n++) {
            int k = LabJob.key(n, p.keys);
            count[k]++;
            sum[k] += LabJob.weight(n);
            maps.computeIfAbsent((int) (n % p.keys), x -> new TreeMap<>()).merge(LabJob.bucket(n, p.keys), n, Long::sum);
            // all multiples of 1000 come from one subtask (in order) when the parallelism divides 1000
            if (SideBranch.isRule(n)) rules.put(SideBranch.ruleOf(n), n);
        }
        Map<String, String> expected = new TreeMap<>();
        for (int k = 0; k < p.keys; k++) {
            expected.put("agg/" + k, agg(count[k], sum[k], count[k] == 0 ? 0 : Arrays.hashCode(LabJob.payload(k, count[k], p.payload))));
            TreeMap<Integer, Long> m = maps.get(k);
            expected.put("agg2/" + k, m == null ? "{}" : m.toString());
        }
        if (p.extras) for (int i = 0; i < p.parallelism; i++) expected.put("bcast/" + i, rules.toString());
        return expected;
    }

    static String agg(long count, long sum, int payloadHash) {
        return count + ":" + sum + ":" + payloadHash;
    }

    /** Keys that have a timer. */
    static long timers(JobParams p) {
        return of(p).entrySet().stream().filter(e -> e.getKey().startsWith("agg/") && !e.getValue().startsWith("0:")).count();
    }

    private ExpectedState() {}
}

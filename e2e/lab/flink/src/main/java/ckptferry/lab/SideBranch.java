package ckptferry.lab;

import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.streaming.api.functions.co.BroadcastProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.flink.util.NumberSequenceIterator;

/** The branch beside the main one: a FLIP-27 source of numbers, slowed down, and broadcast state fed by the main source. */
final class SideBranch {
    /** Slows the number sequence down, and notes the first number of each split that this run sees. */
    static final class Throttle implements MapFunction<Long, Long> {
        private static final long serialVersionUID = 1;

        private final long[] starts;

        Throttle(long[] starts) {
            this.starts = starts;
        }

        @Override
        public Long map(Long v) throws Exception {
            int split = 0;
            while (split + 1 < starts.length && v >= starts[split + 1]) split++;
            SideChannel.SEQUENCE_FIRST.putIfAbsent(split, v);
            Thread.sleep(5);
            return v;
        }
    }

    static long lastNumber(JobParams p) {
        return p.finite ? 50 : Long.MAX_VALUE - 1;
    }

    /** Where the splits of the number sequence begin, in order. */
    static long[] splitStarts(JobParams p) {
        NumberSequenceIterator[] splits = new NumberSequenceIterator(0, lastNumber(p)).split(p.parallelism);
        long[] starts = new long[splits.length];
        for (int i = 0; i < starts.length; i++) starts[i] = splits[i].getCurrent();
        return starts;
    }

    /** Keeps every 1000th element of the main source as broadcast state. */
    static final class Rules extends BroadcastProcessFunction<Long, Long, Long> {
        private static final long serialVersionUID = 1;

        private final MapStateDescriptor<String, Long> descriptor;

        Rules(MapStateDescriptor<String, Long> descriptor) {
            this.descriptor = descriptor;
        }

        @Override
        public void processElement(Long v, ReadOnlyContext c, Collector<Long> out) {}

        @Override
        public void processBroadcastElement(Long v, Context c, Collector<Long> out) throws Exception {
            if (v >= 0) {
                c.getBroadcastState(descriptor).put(ruleOf(v), v);
                return;
            }
            TreeMap<String, Long> sorted = new TreeMap<>();
            for (Map.Entry<String, Long> e : c.getBroadcastState(descriptor).entries()) sorted.put(e.getKey(), e.getValue());
            SideChannel.RESULTS.put("bcast/" + LabJob.subtask(getRuntimeContext()), sorted.toString());
        }
    }

    static boolean isRule(long n) {
        return n >= 0 ? n % 1000 == 0 : n == LabJob.probeOf(0);
    }

    static String ruleOf(long n) {
        return "r" + n % 50_000;
    }

    private SideBranch() {}
}

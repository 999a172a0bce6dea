package ckptferry.lab;

import java.lang.reflect.Method;
import java.util.Random;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.RuntimeContext;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.source.lib.NumberSequenceSource;
import org.apache.flink.api.java.functions.KeySelector;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * The deterministic job. Once the elements [0, target) have been processed exactly once, every state value is a pure
 * function of (target, keys, payload): ExpectedState. A restore is proven by running on to a larger target and
 * comparing all of it. The uids and state names are what the fixtures hold: do not change them.
 */
final class LabJob {
    /** Event-time timers lie here, above every element's timestamp. */
    static final long TIMER_BASE = 1_000_000_000_000_000L;

    static void build(StreamExecutionEnvironment env, JobParams p) {
        env.setParallelism(p.parallelism);
        env.setMaxParallelism(16);
        DataStream<Long> src = env.addSource(p.masterHook ? new LabSource.Hooked(p) : new LabSource(p), Types.LONG).name("src").uid("src");
        if (p.extras) {
            DataStream<Long> slow = env.fromSource(new NumberSequenceSource(0, SideBranch.lastNumber(p)), WatermarkStrategy.noWatermarks(), "seq")
                    .uid("seq").returns(Types.LONG)
                    .map(new SideBranch.Throttle(SideBranch.splitStarts(p))).name("throttle").uid("throttle").returns(Types.LONG);
            MapStateDescriptor<String, Long> rules = new MapStateDescriptor<>("rules", Types.STRING, Types.LONG);
            slow.connect(src.filter(SideBranch::isRule).uid("every1000").broadcast(rules))
                    .process(new SideBranch.Rules(rules)).name("bcast").uid("bcast").returns(Types.LONG);
        }
        src.keyBy((KeySelector<Long, Integer>) n -> n < 0 ? probedKey(n) : key(n, p.keys), Types.INT)
                .process(new KeyedOperators.Agg(p)).name("agg").uid("agg").returns(Types.LONG)
                .keyBy((KeySelector<Long, Integer>) n -> n < 0 ? probedKey(n) : (int) (n % p.keys), Types.INT)
                .process(new KeyedOperators.Agg2(p)).name("agg2").uid("agg2").returns(Types.LONG);
    }

    static long probeOf(int key) {
        return -(long) (key + 1);
    }

    private static int probedKey(long probe) {
        return (int) (-probe - 1);
    }

    static int key(long n, int keys) {
        return (int) (((n * 2654435761L) & 0x7fffffffL) % keys);
    }

    static int bucket(long n, int keys) {
        return (int) (n / keys % 8);
    }

    static long weight(long n) {
        return n * 31 + 7;
    }

    static byte[] payload(int key, long count, int size) {
        byte[] b = new byte[size];
        new Random(key * 1_000_003L + count).nextBytes(b);
        return b;
    }

    /** Flink 1.18 and later have getTaskInfo(), 2.x nothing else. */
    static int subtask(RuntimeContext c) {
        try {
            try {
                Object info = RuntimeContext.class.getMethod("getTaskInfo").invoke(c);
                Method index = Class.forName("org.apache.flink.api.common.TaskInfo").getMethod("getIndexOfThisSubtask");
                return (Integer) index.invoke(info);
            } catch (NoSuchMethodException e) {
                return (Integer) RuntimeContext.class.getMethod("getIndexOfThisSubtask").invoke(c);
            }
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    private LabJob() {}
}

package ckptferry.lab;

import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.locks.LockSupport;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The two keyed operators. A negative element is a probe: publish the current key's state and pass it on. */
final class KeyedOperators {
    /** Count, checksum and payload of each key, and one event-time timer a key, set by its first element. */
    static final class Agg extends KeyedProcessFunction<Integer, Long, Long> implements CheckpointedFunction {
        private static final long serialVersionUID = 1;

        private final JobParams p;
        private transient ValueState<Long> count;
        private transient ValueState<Long> sum;
        private transient ValueState<byte[]> blob;

        Agg(JobParams p) {
            this.p = p;
        }

        @Override
        public void initializeState(FunctionInitializationContext c) throws Exception {
            count = c.getKeyedStateStore().getState(new ValueStateDescriptor<>("count", Types.LONG));
            sum = c.getKeyedStateStore().getState(new ValueStateDescriptor<>("sum", Types.LONG));
            blob = c.getKeyedStateStore().getState(new ValueStateDescriptor<>("blob", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
        }

        @Override
        public void snapshotState(FunctionSnapshotContext c) {}

        @Override
        public void processElement(Long n, Context ctx, Collector<Long> out) throws Exception {
            Integer key = ctx.getCurrentKey();
            if (n < 0) {
                byte[] b = blob.value();
                SideChannel.RESULTS.put("agg/" + key, ExpectedState.agg(orZero(count.value()), orZero(sum.value()), b == null ? 0 : Arrays.hashCode(b)));
                out.collect(n);
                return;
            }
            if (p.slowNanos > 0) LockSupport.parkNanos(p.slowNanos);
            long before = orZero(count.value());
            if (before == 0) ctx.timerService().registerEventTimeTimer(LabJob.TIMER_BASE + key);
            count.update(before + 1);
            sum.update(orZero(sum.value()) + LabJob.weight(n));
            blob.update(LabJob.payload(key, before + 1, p.payload));
            out.collect(n);
        }

        @Override
        public void onTimer(long timestamp, OnTimerContext ctx, Collector<Long> out) {
            SideChannel.TIMERS.merge(ctx.getCurrentKey(), 1L, Long::sum);
        }

        private static long orZero(Long v) {
            return v == null ? 0 : v;
        }
    }

    /** Map state of each key: eight sums. */
    static final class Agg2 extends KeyedProcessFunction<Integer, Long, Long> implements CheckpointedFunction {
        private static final long serialVersionUID = 1;

        private final JobParams p;
        private transient MapState<Integer, Long> map;

        Agg2(JobParams p) {
            this.p = p;
        }

        @Override
        public void initializeState(FunctionInitializationContext c) throws Exception {
            map = c.getKeyedStateStore().getMapState(new MapStateDescriptor<>("map", Types.INT, Types.LONG));
        }

        @Override
        public void snapshotState(FunctionSnapshotContext c) {}

        @Override
        public void processElement(Long n, Context ctx, Collector<Long> out) throws Exception {
            if (n < 0) {
                TreeMap<Integer, Long> sorted = new TreeMap<>();
                for (Map.Entry<Integer, Long> e : map.entries()) sorted.put(e.getKey(), e.getValue());
                SideChannel.RESULTS.put("agg2/" + ctx.getCurrentKey(), sorted.toString());
                return;
            }
            int bucket = LabJob.bucket(n, p.keys);
            Long before = map.get(bucket);
            map.put(bucket, (before == null ? 0 : before) + n);
        }
    }

    private KeyedOperators() {}
}

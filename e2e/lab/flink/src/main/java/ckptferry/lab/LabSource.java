package ckptferry.lab;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.state.ListState;
import org.apache.flink.api.common.state.ListStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.checkpoint.MasterTriggerRestoreHook;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.checkpoint.WithMasterCheckpointHook;
import org.apache.flink.streaming.api.watermark.Watermark;

/**
 * Emits me, me + parallelism, me + 2 * parallelism, ... below target, then idles and sends probes when asked.
 * Its offset is union list state; a second list of five numbers checks redistribution.
 */
class LabSource extends LegacySource<Long> implements CheckpointedFunction {
    private static final long serialVersionUID = 1;

    private final JobParams p;
    private volatile boolean running = true;
    private long next; // index of this subtask's next element
    private int me;
    private transient ListState<long[]> union;
    private transient ListState<Long> split;

    LabSource(JobParams p) {
        this.p = p;
    }

    @Override
    public void initializeState(FunctionInitializationContext c) throws Exception {
        me = LabJob.subtask(getRuntimeContext());
        union = c.getOperatorStateStore().getUnionListState(new ListStateDescriptor<>("offsets-union", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO));
        split = c.getOperatorStateStore().getListState(new ListStateDescriptor<>("split-list", Types.LONG));
        if (!c.isRestored()) return;
        for (long[] e : union.get()) if (e[0] == me) next = e[1];
        List<Long> numbers = new ArrayList<>();
        for (Long x : split.get()) numbers.add(x);
        if (numbers.size() != 5) throw new IllegalStateException("split list lost: " + numbers);
        SideChannel.RESTORED.put(me, next);
    }

    @Override
    public void snapshotState(FunctionSnapshotContext c) throws Exception {
        union.clear();
        union.add(new long[] {me, next});
        split.clear();
        for (long k = 0; k < 5; k++) split.add(me * 100 + k);
        synchronized (SideChannel.SNAPSHOTS) {
            SideChannel.SNAPSHOTS.computeIfAbsent(c.getCheckpointId(), x -> new long[p.parallelism])[me] = next;
        }
    }

    @Override
    public void run(SourceContext<Long> ctx) throws Exception {
        emitAll(ctx);
        SideChannel.DONE.incrementAndGet();
        boolean fired = false;
        while (running) {
            if (SideChannel.fail) throw new RuntimeException("lab: failing on request");
            if (SideChannel.fireTimers && !fired) {
                ctx.emitWatermark(new Watermark(LabJob.TIMER_BASE * 2));
                fired = true;
            }
            if (SideChannel.probe && me == 0 && SideChannel.DONE.get() >= p.parallelism) {
                for (int k = 0; k < p.keys && running; k++) {
                    synchronized (ctx.getCheckpointLock()) {
                        ctx.collectWithTimestamp(LabJob.probeOf(k), 0);
                    }
                }
                Thread.sleep(200);
            }
            Thread.sleep(50);
        }
    }

    private void emitAll(SourceContext<Long> ctx) throws InterruptedException {
        long start = System.nanoTime();
        long sent = 0;
        while (running && me + next * p.parallelism < p.target) {
            synchronized (ctx.getCheckpointLock()) {
                long n = me + next * p.parallelism;
                ctx.collectWithTimestamp(n, n);
                next++;
            }
            sent++;
            if (p.ratePerSecond > 0 && sent % 100 == 0) {
                long ahead = sent * 1_000_000_000L / p.ratePerSecond - (System.nanoTime() - start);
                if (ahead > 1_000_000) Thread.sleep(ahead / 1_000_000);
            }
        }
    }

    @Override
    public void cancel() {
        running = false;
    }

    /** The same source with a master state in every checkpoint. */
    static final class Hooked extends LabSource implements WithMasterCheckpointHook<String> {
        private static final long serialVersionUID = 1;

        Hooked(JobParams p) {
            super(p);
        }

        @Override
        public MasterTriggerRestoreHook<String> createMasterTriggerRestoreHook() {
            return new MasterHook();
        }
    }
}

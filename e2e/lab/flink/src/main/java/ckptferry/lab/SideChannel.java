package ckptferry.lab;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * What the job tells the harness and the other way round. MiniCluster runs the job in the harness's JVM and class
 * loader, so statics do; on a real cluster nobody listens.
 */
final class SideChannel {
    /** State as the probes found it: "agg/KEY", "agg2/KEY", "bcast/SUBTASK" to its text. */
    static final Map<String, String> RESULTS = new ConcurrentHashMap<>();
    /** Checkpoint id to the next index of each source subtask. */
    static final Map<Long, long[]> SNAPSHOTS = new ConcurrentHashMap<>();
    /** Source subtask to the index it was restored with. */
    static final Map<Integer, Long> RESTORED = new ConcurrentHashMap<>();
    /** Key to how often its timer fired. */
    static final Map<Integer, Long> TIMERS = new ConcurrentHashMap<>();
    /** Split of the side source (by its order) to the first number this run read of it. */
    static final Map<Integer, Long> SEQUENCE_FIRST = new ConcurrentHashMap<>();
    /** Source subtasks that have emitted all of their elements. */
    static final AtomicInteger DONE = new AtomicInteger();

    static volatile String restoredHook;
    static volatile boolean probe;
    static volatile boolean fireTimers;
    static volatile boolean fail;

    private SideChannel() {}
}

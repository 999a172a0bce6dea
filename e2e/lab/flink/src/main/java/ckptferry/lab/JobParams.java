package ckptferry.lab;

import java.io.Serializable;

/** What the job's state is a function of, and how fast it gets there. */
public final class JobParams implements Serializable {
    private static final long serialVersionUID = 1;

    /** The sources emit the longs [0, target) in all. */
    public long target = 20000;

    public int keys = 2000;
    /** Bytes of the payload that each key keeps. */
    public int payload = 512;

    public int parallelism = 2;
    /** Elements a second of each source subtask; 0 = as fast as it goes. */
    public long ratePerSecond = 20000;
    /** Work per element in "agg", for back pressure. */
    public long slowNanos;
    /** The side source ends, so that a checkpoint holds a finished operator. */
    public boolean finite;
    /** The FLIP-27 source (coordinator state) and the broadcast branch. */
    public boolean extras = true;
    /** The source brings a master hook, so that a checkpoint holds a master state. */
    public boolean masterHook;

    static JobParams of(Options o) {
        JobParams p = new JobParams();
        p.target = o.number("target", 20000);
        p.keys = o.number("keys", 2000);
        p.payload = o.number("payload", 512);
        p.parallelism = o.number("parallelism", 2);
        p.ratePerSecond = o.number("rate", 20000);
        p.slowNanos = o.number("slow-nanos", 0);
        p.finite = o.yes("finite", false);
        p.extras = o.yes("extras", true);
        p.masterHook = o.yes("master-hook", false);
        return p;
    }
}

package ckptferry.lab;

import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** The same job for a real cluster: {@code flink run [-s CHECKPOINT] -c ckptferry.lab.ClusterJob harness.jar --target N ...}. */
public final class ClusterJob {
    public static void main(String[] args) throws Exception {
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        LabJob.build(env, JobParams.of(Options.parse(args, 0)));
        env.executeAsync("ckptferry-lab");
    }

    private ClusterJob() {}
}

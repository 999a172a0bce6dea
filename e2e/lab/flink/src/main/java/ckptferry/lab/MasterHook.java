package ckptferry.lab;

import java.nio.charset.StandardCharsets;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.runtime.checkpoint.MasterTriggerRestoreHook;

/** Writes "hook@CHECKPOINT" as master state, and tells what it was restored with. */
final class MasterHook implements MasterTriggerRestoreHook<String> {
    static String stateOf(long checkpoint) {
        return "hook@" + checkpoint;
    }

    @Override
    public String getIdentifier() {
        return "lab-hook";
    }

    @Override
    public CompletableFuture<String> triggerCheckpoint(long id, long timestamp, Executor executor) {
        return CompletableFuture.completedFuture(stateOf(id));
    }

    @Override
    public void restoreCheckpoint(long id, String state) {
        SideChannel.restoredHook = state;
    }

    @Override
    public SimpleVersionedSerializer<String> createCheckpointDataSerializer() {
        return new Text();
    }

    private static final class Text implements SimpleVersionedSerializer<String> {
        @Override
        public int getVersion() {
            return 77;
        }

        @Override
        public byte[] serialize(String s) {
            return s.getBytes(StandardCharsets.UTF_8);
        }

        @Override
        public String deserialize(int version, byte[] b) {
            return new String(b, StandardCharsets.UTF_8);
        }
    }
}

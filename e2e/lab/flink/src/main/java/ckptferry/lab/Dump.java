package ckptferry.lab;

import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.InputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;
import org.apache.flink.runtime.checkpoint.Checkpoints;
import org.apache.flink.runtime.checkpoint.MasterState;
import org.apache.flink.runtime.checkpoint.OperatorState;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.runtime.checkpoint.metadata.CheckpointMetadata;
import org.apache.flink.runtime.util.EnvironmentInformation;

/** dump: what Flink's own loader reads of a _metadata. Reflection on the handle types lets one source fit 1.13 to 2.x. */
final class Dump {
    /** JSON name and getter, in output order; a getter that a class lacks is left out. */
    private static final String[][] GETTERS = {
        {"path", "getFilePath"}, {"relativePath", "getRelativePath"}, {"name", "getHandleName"},
        {"startPos", "getStartPos"}, {"scope", "getScope"}, {"logicalFileId", "getLogicalFileId"},
        {"taskOwnedDir", "getTaskOwnedDirHandle"}, {"sharedDir", "getSharedDirHandle"},
        {"checkpointId", "getCheckpointId"}, {"materializationId", "getMaterializationID"},
        {"backendId", "getBackendIdentifier"}, {"keyGroupRange", "getKeyGroupRange"},
        {"stateHandleId", "getStateHandleId"}, {"checkpointedSize", "getCheckpointedSize"},
        {"storageIdentifier", "getStorageIdentifier"}, {"from", "getFrom"}, {"to", "getTo"},
        {"subtaskIndex", "getSubtaskIndex"}, {"info", "getInfo"}, {"channelOffsets", "getOffsets"},
        {"states", "getStateNameToPartitionOffsets"}};

    private static final String[] SUBTASK_STATES = {
        "ManagedOperatorState", "RawOperatorState", "ManagedKeyedState", "RawKeyedState", "InputChannelState", "ResultSubpartitionState"};

    /** Whose state a handle is: subtask -1 is the coordinator. */
    private static final class Owner {
        final OperatorState operator;
        final int subtask;

        Owner(OperatorState operator, int subtask) {
            this.operator = operator;
            this.subtask = subtask;
        }
    }

    private final List<Object> leaves = new ArrayList<>();

    static Map<String, Object> load(String pointer) throws Exception {
        Path p = new Path(pointer);
        FileSystem fs = p.getFileSystem();
        if (fs.getFileStatus(p).isDir()) p = new Path(p, "_metadata");
        byte[] all;
        try (InputStream in = fs.open(p)) {
            all = in.readAllBytes();
        }
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(all));
        CheckpointMetadata md = Checkpoints.loadCheckpointMetadata(in, Dump.class.getClassLoader(), pointer);
        Map<String, Object> o = new LinkedHashMap<>();
        o.put("loader", "flink " + EnvironmentInformation.getVersion());
        o.put("source", p.getParent().makeQualified(fs).toString());
        o.put("trailingBytes", in.available());
        o.put("fileSize", all.length);
        o.put("metadataVersion", ByteBuffer.wrap(all).getInt(4));
        o.put("checkpointId", md.getCheckpointId());
        List<Object> masterStates = new ArrayList<>();
        for (MasterState m : md.getMasterStates()) {
            Map<String, Object> x = new LinkedHashMap<>();
            x.put("name", m.name());
            x.put("version", m.version());
            x.put("size", m.bytes().length);
            masterStates.add(x);
        }
        o.put("masterStates", masterStates);
        Object properties = call(md, "getCheckpointProperties");
        o.put("properties", properties == null ? null : properties.toString());
        Dump d = new Dump();
        List<Object> operators = new ArrayList<>();
        for (OperatorState s : md.getOperatorStates()) operators.add(d.operator(s));
        o.put("operators", operators);
        o.put("handles", d.leaves);
        return o;
    }

    private Object operator(OperatorState s) throws Exception {
        Map<String, Object> o = new LinkedHashMap<>();
        o.put("id", s.getOperatorID().toString());
        Object name = call(s, "getOperatorName");
        Object uid = call(s, "getOperatorUid");
        if (name instanceof Optional) o.put("name", ((Optional<?>) name).orElse(null));
        if (uid instanceof Optional) o.put("uid", ((Optional<?>) uid).orElse(null));
        o.put("parallelism", s.getParallelism());
        o.put("maxParallelism", s.getMaxParallelism());
        boolean finished = Boolean.TRUE.equals(call(s, "isFullyFinished"));
        o.put("fullyFinished", finished);
        o.put("coordinatorState", handle(s.getCoordinatorState(), new Owner(s, -1), "coordinator"));
        List<Object> subtasks = new ArrayList<>();
        if (!finished) {
            for (Map.Entry<Integer, OperatorSubtaskState> e : new TreeMap<>(s.getSubtaskStates()).entrySet()) {
                subtasks.add(subtask(e.getValue(), new Owner(s, e.getKey())));
            }
        }
        o.put("numSubtaskStates", subtasks.size());
        o.put("subtasks", subtasks);
        return o;
    }

    private Object subtask(OperatorSubtaskState state, Owner owner) throws Exception {
        Map<String, Object> o = new LinkedHashMap<>();
        o.put("index", owner.subtask);
        o.put("finished", Boolean.TRUE.equals(call(state, "isFinished")));
        for (String kind : SUBTASK_STATES) {
            Object handles = call(state, "get" + kind);
            o.put(Character.toLowerCase(kind.charAt(0)) + kind.substring(1), handles == null ? new ArrayList<>() : list(handles, owner, kind));
        }
        return o;
    }

    private Object handle(Object h, Owner owner, String where) throws Exception {
        if (h == null) return null;
        String type = h.getClass().getSimpleName();
        Map<String, Object> o = new LinkedHashMap<>();
        o.put("class", type);
        for (String[] g : GETTERS) {
            if (type.startsWith("Changelog") && g[0].equals("backendId")) continue;
            Object v = call(h, g[1]);
            if (v != null && g[0].endsWith("Dir")) v = call(v, "getDirectory");
            if (v instanceof Optional) v = ((Optional<?>) v).orElse(null);
            if (v != null) o.put(g[0], plain(v));
        }
        o.put("size", call(h, "getStateSize"));
        Object offsets = call(h, "getGroupRangeOffsets");
        if (offsets instanceof Iterable) {
            List<Object> l = new ArrayList<>();
            for (Object t : (Iterable<?>) offsets) l.add(field(t, "f1"));
            o.put("keyGroupOffsets", l);
        }
        if (type.equals("ByteStreamStateHandle")) o.put("sha256", sha256((byte[]) call(h, "getData")));
        if (type.equals("FileStateHandle") || type.equals("RelativeFileStateHandle") || type.endsWith("SegmentFileStateHandle") || type.equals("ByteStreamStateHandle")) {
            o.put("relative", type.equals("RelativeFileStateHandle"));
            Map<String, Object> leaf = new LinkedHashMap<>();
            leaf.put("operator", owner.operator.getOperatorID().toString());
            leaf.put("subtask", owner.subtask);
            leaf.put("where", where);
            leaf.putAll(o);
            leaves.add(leaf);
            return o;
        }
        nested(h, type, o, owner, where);
        return o;
    }

    private void nested(Object h, String type, Map<String, Object> o, Owner owner, String where) throws Exception {
        Object delegate = call(h, "getDelegateStateHandle");
        if (delegate == null) delegate = call(h, "getDelegate");
        if (delegate != null && delegate != h) o.put("delegate", handle(delegate, owner, where));
        if (type.contains("Incremental")) {
            Object meta = call(h, "getMetaDataStateHandle"); // 1.19 and later
            o.put("meta", handle(meta != null ? meta : call(h, "getMetaStateHandle"), owner, where + ".meta"));
            o.put("shared", paths(call(h, "getSharedState"), owner, where + ".shared"));
            o.put("private", paths(call(h, "getPrivateState"), owner, where + ".private"));
        }
        if (type.startsWith("ChangelogStateBackendHandle")) {
            o.put("materialized", list(call(h, "getMaterializedStateHandles"), owner, where + ".materialized"));
            o.put("nonMaterialized", list(call(h, "getNonMaterializedStateHandles"), owner, where + ".nonMaterialized"));
        }
        Object streams = call(h, "getHandlesAndOffsets");
        if (streams != null) {
            List<Object> l = new ArrayList<>();
            for (Object t : (Iterable<?>) streams) {
                Map<String, Object> x = new LinkedHashMap<>();
                x.put("offset", field(t, "f1"));
                x.put("handle", handle(field(t, "f0"), owner, where + ".log"));
                l.add(x);
            }
            o.put("streams", l);
        }
        Object changes = call(h, "getChanges");
        if (changes instanceof List) o.put("numChanges", ((List<?>) changes).size());
    }

    private List<Object> list(Object handles, Owner owner, String where) throws Exception {
        List<Object> l = new ArrayList<>();
        for (Object h : (Iterable<?>) handles) l.add(handle(h, owner, where));
        return l;
    }

    private List<Object> paths(Object handles, Owner owner, String where) throws Exception {
        List<Object> l = new ArrayList<>();
        if (handles instanceof Map) { // up to 1.17: Map<StateHandleID, StreamStateHandle>
            for (Map.Entry<?, ?> e : ((Map<?, ?>) handles).entrySet()) l.add(localPath(e.getKey(), handle(e.getValue(), owner, where)));
        } else {
            for (Object x : (Iterable<?>) handles) l.add(localPath(call(x, "getLocalPath"), handle(call(x, "getHandle"), owner, where)));
        }
        return l;
    }

    private static Map<String, Object> localPath(Object name, Object handle) {
        Map<String, Object> x = new LinkedHashMap<>();
        x.put("localPath", String.valueOf(name));
        x.put("handle", handle);
        return x;
    }

    /** Numbers, lists and maps stay; StateMetaInfo becomes an object; everything else its text. */
    private static Object plain(Object v) {
        if (v instanceof Number || v instanceof List) return v;
        if (!(v instanceof Map)) return String.valueOf(v);
        Map<String, Object> o = new LinkedHashMap<>();
        for (Map.Entry<?, ?> e : ((Map<?, ?>) v).entrySet()) {
            Map<String, Object> x = new LinkedHashMap<>();
            x.put("mode", String.valueOf(call(e.getValue(), "getDistributionMode")));
            x.put("offsets", call(e.getValue(), "getOffsets"));
            o.put(String.valueOf(e.getKey()), x);
        }
        return o;
    }

    /** null when the class has no such getter, or the getter throws (a handle that does not support it). */
    private static Object call(Object o, String getter) {
        try {
            Method m = o.getClass().getMethod(getter);
            m.setAccessible(true);
            return m.invoke(o);
        } catch (NoSuchMethodException | InvocationTargetException e) {
            return null;
        } catch (IllegalAccessException e) {
            throw new IllegalStateException(o.getClass() + "." + getter, e);
        }
    }

    private static Object field(Object tuple, String name) throws ReflectiveOperationException {
        return tuple.getClass().getField(name).get(tuple);
    }

    private static String sha256(byte[] b) throws Exception {
        StringBuilder s = new StringBuilder();
        for (byte x : MessageDigest.getInstance("SHA-256").digest(b)) s.append(String.format("%02x", x));
        return s.toString();
    }
}

package ckptferry.lab;

import java.io.IOException;
import java.util.TreeMap;
import org.apache.flink.core.fs.FileStatus;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.Path;

/** The directory that holds a job's chk-N. */
final class JobDirectory {
    final Path path;

    /** With entropy injection _metadata lies in the path without the key. */
    JobDirectory(String checkpointDir, String jobId) {
        path = new Path(checkpointDir.replace(EntropyFs.KEY + "/", ""), jobId);
    }

    /** Checkpoint id to URI, oldest first. Completed is what has a _metadata. */
    TreeMap<Long, String> completed() throws IOException {
        TreeMap<Long, String> found = new TreeMap<>();
        FileSystem fs = path.getFileSystem();
        if (!exists(path)) return found;
        FileStatus[] list;
        try {
            list = fs.listStatus(path);
        } catch (IOException e) {
            return found; // a subsumed chk-N went away meanwhile: the caller polls
        }
        if (list == null) return found;
        for (FileStatus s : list) {
            String name = s.getPath().getName();
            if (name.startsWith("chk-") && exists(new Path(s.getPath(), "_metadata"))) {
                found.put(Long.parseLong(name.substring(4)), s.getPath().makeQualified(fs).toString());
            }
        }
        return found;
    }

    private static boolean exists(Path p) {
        try {
            return p.getFileSystem().exists(p);
        } catch (IOException e) {
            return false;
        }
    }
}

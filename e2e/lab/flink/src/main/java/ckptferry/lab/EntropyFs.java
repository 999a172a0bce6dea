package ckptferry.lab;

import java.net.URI;
import java.util.Random;
import org.apache.flink.core.fs.EntropyInjectingFileSystem;
import org.apache.flink.core.fs.FileSystem;
import org.apache.flink.core.fs.FileSystemFactory;
import org.apache.flink.core.fs.local.LocalFileSystem;

/** ent:///path: the local file system with "_entropy_" injection, as the object stores have it. */
public final class EntropyFs extends LocalFileSystem implements EntropyInjectingFileSystem {
    /** The key in a configured path; _metadata lies in the path without it. */
    static final String KEY = "_entropy_";

    @Override
    public URI getUri() {
        return URI.create("ent:///");
    }

    @Override
    public String getEntropyInjectionKey() {
        return KEY;
    }

    @Override
    public String generateEntropy() {
        return Integer.toHexString(new Random().nextInt(16)) + "e";
    }

    /** Found by the service loader. */
    public static final class Factory implements FileSystemFactory {
        @Override
        public String getScheme() {
            return "ent";
        }

        @Override
        public FileSystem create(URI uri) {
            return new EntropyFs();
        }
    }
}

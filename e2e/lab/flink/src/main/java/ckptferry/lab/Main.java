package ckptferry.lab;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Map;
import org.apache.flink.core.fs.FileSystem;

/** The harness's commands; README.md has their options. Exit 0 = right, 1 = not, 2 = usage. */
public final class Main {
    public static void main(String[] args) {
        int code = 1;
        try {
            code = run(args.length == 0 ? "" : args[0], Options.parse(args, 1));
        } catch (IllegalArgumentException e) {
            System.err.println(e.getMessage());
            code = 2;
        } catch (Throwable e) {
            e.printStackTrace();
        }
        System.out.flush();
        Runtime.getRuntime().halt(code); // also ends a job that is still running
    }

    private static int run(String command, Options o) throws Exception {
        switch (command) {
            case "gen":
                return Gen.run(o);
            case "restore-check":
                return RestoreCheck.run(o);
            case "dump":
                return dump(o);
            case "dump-all":
                return dumpAll(o);
            case "bench-metadata":
                return BenchMetadata.run(o);
            default:
                System.err.println("usage: gen | restore-check | dump | dump-all | bench-metadata (see README.md)");
                return 2;
        }
    }

    private static int dump(Options o) throws Exception {
        FileSystem.initialize(FlinkConf.of(o), null);
        Map<String, Object> loaded = Dump.load(o.positional.get(0));
        if (o.has("out")) Json.write(Paths.get(o.text("out", null)), loaded);
        else System.out.print(Json.pretty(loaded));
        return 0;
    }

    /** A file of lines URI=OUT.json: one JVM for many checkpoints. */
    private static int dumpAll(Options o) throws Exception {
        FileSystem.initialize(FlinkConf.of(o), null);
        Path list = Paths.get(o.positional.get(0));
        for (String line : Files.readAllLines(list)) {
            int eq = line.lastIndexOf('=');
            Json.write(Paths.get(line.substring(eq + 1)), Dump.load(line.substring(0, eq)));
        }
        return 0;
    }

    private Main() {}
}

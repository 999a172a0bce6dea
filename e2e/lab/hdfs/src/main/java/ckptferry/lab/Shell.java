package ckptferry.lab;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.crypto.key.KeyShell;
import org.apache.hadoop.fs.FsShell;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.tools.CryptoAdmin;
import org.apache.hadoop.hdfs.tools.DFSAdmin;
import org.apache.hadoop.hdfs.tools.DFSHAAdmin;
import org.apache.hadoop.hdfs.tools.ECAdmin;
import org.apache.hadoop.security.UserGroupInformation;
import org.apache.hadoop.util.Tool;
import org.apache.hadoop.util.ToolRunner;

/**
 * Runs Hadoop's command line tools one after the other in one JVM: a JVM per command costs more than a second each.
 *
 * <p>Standard input: one command a line, arguments separated by tabs; the first names the tool (fs, dfsadmin,
 * haadmin, ec, crypto, key). Standard output: "exit code, number of bytes" on one line, then that many bytes: what the tool
 * printed, both streams.
 *
 * <p>With the properties ckptferry.keytab and ckptferry.principal it logs in to Kerberos first.
 */
public final class Shell {
  public static void main(String[] ignored) throws Exception {
    String keytab = System.getProperty("ckptferry.keytab");
    if (keytab != null) {
      UserGroupInformation.setConfiguration(new HdfsConfiguration());
      UserGroupInformation.loginUserFromKeytab(System.getProperty("ckptferry.principal"), keytab);
    }
    PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false);
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = in.readLine()) != null; ) {
      String[] words = line.split("\t", -1);
      ByteArrayOutputStream printed = new ByteArrayOutputStream();
      PrintStream capture = new PrintStream(printed, true, "UTF-8");
      System.setOut(capture);
      System.setErr(capture);
      int code = 255;
      try {
        code = ToolRunner.run(tool(words[0]), Arrays.copyOfRange(words, 1, words.length));
      } catch (Exception e) {
        e.printStackTrace(capture);
      }
      capture.flush();
      out.println(code + " " + printed.size());
      printed.writeTo(out);
      out.flush();
    }
  }

  private static Tool tool(String name) {
    Configuration conf = new HdfsConfiguration();
    switch (name) {
      case "fs":
        return new FsShell(conf);
      case "dfsadmin":
        return new DFSAdmin(conf);
      case "haadmin":
        return new DFSHAAdmin() {
          {
            setConf(conf);
          }
        };
      case "ec":
        return new ECAdmin(conf);
      case "crypto":
        return new CryptoAdmin(conf);
      case "key":
        KeyShell shell = new KeyShell();
        shell.setConf(conf);
        return shell;
      default:
        throw new IllegalArgumentException("no tool " + name);
    }
  }
}

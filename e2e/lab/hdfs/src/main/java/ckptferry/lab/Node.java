package ckptferry.lab;

import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.server.datanode.DataNode;
import org.apache.hadoop.hdfs.server.namenode.NameNode;
import org.apache.hadoop.metrics2.lib.DefaultMetricsSystem;

/**
 * A NameNode, formatted first if asked, and DataNodes beside it in the same JVM: the quickest start and the least
 * memory. Tests that kill or freeze one DataNode start Hadoop's own DataNode class in a JVM of its own instead.
 *
 * <p>Arguments: [format] and one "data-dir,port,http-port,ipc-port" per DataNode. Configuration comes from the
 * core-site.xml and hdfs-site.xml on the class path.
 */
public final class Node {
  public static void main(String[] args) throws Exception {
    Configuration conf = new HdfsConfiguration();
    // Formatting and starting in one JVM registers the same metrics twice; mini-cluster mode allows that.
    DefaultMetricsSystem.setMiniClusterMode(true);
    List<String> datanodes = new ArrayList<>();
    for (String arg : args) {
      if (arg.equals("format")) {
        NameNode.format(conf);
      } else {
        datanodes.add(arg);
      }
    }
    NameNode namenode = NameNode.createNameNode(new String[0], conf);
    for (String arg : datanodes) {
      String[] part = arg.split(",");
      Configuration c = new HdfsConfiguration(conf);
      c.set("dfs.datanode.data.dir", "file://" + part[0]);
      c.set("dfs.datanode.address", "127.0.0.1:" + part[1]);
      c.set("dfs.datanode.http.address", "127.0.0.1:" + part[2]);
      c.set("dfs.datanode.ipc.address", "127.0.0.1:" + part[3]);
      DataNode.createDataNode(new String[0], c);
    }
    namenode.join();
  }
}

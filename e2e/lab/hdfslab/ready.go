package hdfslab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// WaitReady waits until a NameNode is active and out of safe mode and knows `datanodes` live DataNodes, and until those
// of them that have a process of their own are registered: the NameNode believes for 14 s that a killed one lives.
func (c *Cluster) WaitReady(ctx context.Context, datanodes int) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		if c.namenodeReady(ctx, datanodes) && c.datanodesRegistered(ctx) {
			return nil
		}
		if dead := c.deadNodes(); len(dead) > 0 {
			return fmt.Errorf("wait for HDFS: %s ended:\n%s", dead[0].name, tail(dead[0].log))
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for HDFS (logs in %s): %w", filepath.Join(c.dir, "log"), err)
		}
	}
}

// namenodeReady asks the NameNodes' JMX. FSNamesystemState and NameNodeStatus are live; FSNamesystem is cached for 10 s.
func (c *Cluster) namenodeReady(ctx context.Context, datanodes int) bool {
	for _, port := range c.ports.http {
		var state struct {
			FSState          string
			NumLiveDataNodes int
		}
		var status struct{ State string }
		if jmx(ctx, port, "Hadoop:service=NameNode,name=FSNamesystemState", &state) && state.FSState == "Operational" && state.NumLiveDataNodes >= datanodes &&
			jmx(ctx, port, "Hadoop:service=NameNode,name=NameNodeStatus", &status) && status.State == "active" {
			return true
		}
	}
	return false
}

// datanodesRegistered asks the DataNodes that run in a process of their own whether every NameNode knows them.
func (c *Cluster) datanodesRegistered(ctx context.Context) bool {
	for i, p := range c.ports.datanodes {
		if node, err := c.node(fmt.Sprintf("dn%d", i+1)); err != nil || !node.alive() {
			continue
		}
		var info struct{ BPServiceActorInfo string } // JSON in a string
		var actors []struct{ ActorState string }
		if !jmx(ctx, p[1], "Hadoop:service=DataNode,name=DataNodeInfo", &info) || json.Unmarshal([]byte(info.BPServiceActorInfo), &actors) != nil || len(actors) == 0 {
			return false
		}
		for _, a := range actors {
			if !strings.EqualFold(a.ActorState, "RUNNING") {
				return false
			}
		}
	}
	return true
}

// jmx reads one bean of a node, and says whether there was an answer.
func jmx(ctx context.Context, httpPort int, bean string, into any) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+hostPort(httpPort)+"/jmx?qry="+url.QueryEscape(bean), nil)
	if err != nil {
		return false
	}
	resp, err := (&http.Client{Timeout: 2 * time.Second}).Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var answer struct {
		Beans []json.RawMessage `json:"beans"`
	}
	return json.NewDecoder(resp.Body).Decode(&answer) == nil && len(answer.Beans) == 1 && json.Unmarshal(answer.Beans[0], into) == nil
}

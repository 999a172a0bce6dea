package main

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

func TestTheLinkDelaysAndLosesNothing(t *testing.T) {
	const delay = 20 * time.Millisecond
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	go func() {
		conn, err := far.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}()
	link, err := newDelayProxy(far.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", link.addr())
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("ckptferry"), 200_000)
	began := time.Now()
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if took := time.Since(began); took < 4*delay {
		t.Errorf("an echo took %s; want a round trip for the connection and one for the bytes, %s", took, 4*delay)
	}
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, %v; want %d", len(got), err, len(sent))
	}
	if err := link.close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", link.addr()); err == nil {
		t.Error("the link can be dialled after its end")
	}
}

// What is on the way when the link is closed ends with it.
func TestTheLinkEndsAtOnce(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	link, err := newDelayProxy(far.Addr().String(), 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", link.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := far.Accept(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- link.close() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("close did not end")
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open after the link's end")
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, tc := range []struct {
		sorted []float64
		part   float64
		want   float64
	}{{hundred, 0.5, 50}, {hundred, 0.99, 99}, {[]float64{7}, 0.99, 7}, {[]float64{1, 2}, 0.5, 1}, {[]float64{1, 2, 3}, 0.99, 3}} {
		if got := quantile(tc.sorted, tc.part); got != tc.want {
			t.Errorf("quantile of %d values, %v = %v; want %v", len(tc.sorted), tc.part, got, tc.want)
		}
	}
}

func TestPartsOfAgentsAreChosenByName(t *testing.T) {
	if got, err := chooseAgents("wan,jobs"); err != nil || len(got) != 2 {
		t.Errorf("chooseAgents = %v, %v", got, err)
	}
	if _, err := chooseAgents("wan,lan"); err == nil {
		t.Error("a part that isn't there is taken")
	}
}

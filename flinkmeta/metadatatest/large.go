package metadatatest

import (
	"fmt"
	"math/rand/v2"
)

// Where Large says that its checkpoint lies.
const (
	LargeBase = "hdfs://dc-a/flink/checkpoints/orders-enrichment"
	LargeJob  = "5f24a551be2324b1f70cae10026b14a1"
	LargeDir  = LargeBase + "/" + LargeJob + "/chk-4711"
)

// Large is a checkpoint of version 4 with n files: incremental RocksDB state of 64 subtasks, the sst files absolute in
// shared/, each subtask's meta file relative in chk-4711 (these are among the n), OPTIONS and CURRENT inline. It is the
// same at every call, about 155 bytes a file.
func Large(n int) []byte {
	const parallelism = 64
	r := rand.New(rand.NewPCG(1, 2))
	w := &Writer{B: make([]byte, 0, 160*n+64<<10)}
	w.Header(4, 4711)
	w.I32(0) // master states
	w.I32(1) // operators
	w.I64(r.Int64())
	w.I64(r.Int64())
	w.I32(parallelism)
	w.I32(128)
	w.Null() // coordinator
	w.I32(parallelism)
	for i := range parallelism {
		w.I32(i)
		w.I32(0) // managed, raw operator state
		w.I32(0)
		w.incremental(r, n*(i+1)/parallelism-n*i/parallelism)
		w.Null() // raw keyed state
		w.I32(0) // channel state
		w.I32(0)
	}
	w.CheckpointTail()
	return w.B
}

// incremental appends an INCREMENTAL_V2 handle with n files.
func (w *Writer) incremental(r *rand.Rand, n int) {
	w.U8(11)
	w.I64(4711)
	w.UTF(uuid(r))
	w.I32(0)
	w.I32(2)
	w.I64(1 << 20)
	if n > 0 {
		w.Relative(uuid(r), 1605)
	} else {
		w.Inline(uuid(r), make([]byte, 100))
	}
	w.I32(max(n-1, 0))
	for i := range max(n-1, 0) {
		w.UTF(fmt.Sprintf("%06d.sst", i))
		w.File(LargeBase+"/"+LargeJob+"/shared/"+uuid(r), 1<<20+r.Int64N(64<<20))
	}
	w.I32(2)
	w.UTF("CURRENT")
	w.Inline(LargeBase+"/"+LargeJob+"/shared/"+uuid(r), []byte("MANIFEST-000004\n"))
	w.UTF("OPTIONS-000013")
	w.Inline(LargeBase+"/"+LargeJob+"/shared/"+uuid(r), make([]byte, 721))
	w.UTF(uuid(r))
}

func uuid(r *rand.Rand) string {
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xFFFF, a&0xFFF, 0x8000|b>>48&0x3FFF, b&0xFFFFFFFFFFFF)
}

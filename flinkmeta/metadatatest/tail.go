package metadatatest

const (
	runtime  = "org.apache.flink.runtime.checkpoint."
	runtimeL = "org/apache/flink/runtime/checkpoint/"
)

// CheckpointTail appends the properties of a retained checkpoint, as Flink 1.20 writes them: CheckpointProperties by
// java.io.ObjectOutputStream.
func (w *Writer) CheckpointTail() {
	w.propertiesHead()
	w.B = append(w.B, 0, 0, 1, 1, 0, 0, 0) // discardCancelled, …Failed, …Finished, …Subsumed, …Suspended, forced, unclaimed
	w.B = append(w.B, 's')
	w.classDesc(runtime+"CheckpointType", 2, -0x2921b0fcfa51e2c6, 2)
	w.referenceField("name", "Ljava/lang/String;")
	w.referenceField("sharingFilesStrategy", "L"+runtimeL+"SnapshotType$SharingFilesStrategy;")
	w.B = append(w.B, 'x', 'p')
	w.str("Checkpoint")
	w.B = append(w.B, '~')
	w.enumDesc(runtime + "SnapshotType$SharingFilesStrategy")
	w.str("FORWARD_BACKWARD")
}

// SavepointTail appends the properties of a canonical savepoint, as Flink 1.20 writes them.
func (w *Writer) SavepointTail() {
	w.propertiesHead()
	w.B = append(w.B, 0, 0, 0, 0, 0, 1, 0)
	w.B = append(w.B, 's')
	w.classDesc(runtime+"SavepointType", 2, -0x5f782cf75ba7eb48, 3)
	w.referenceField("formatType", "Lorg/apache/flink/core/execution/SavepointFormatType;")
	w.referenceField("name", "Ljava/lang/String;")
	w.referenceField("postCheckpointAction", "L"+runtimeL+"SavepointType$PostCheckpointAction;")
	w.B = append(w.B, 'x', 'p', '~')
	w.enumDesc("org.apache.flink.core.execution.SavepointFormatType")
	w.str("CANONICAL")
	w.str("Savepoint")
	w.B = append(w.B, '~', 'r')
	w.UTF(runtime + "SavepointType$PostCheckpointAction")
	w.I64(0)
	w.B = append(w.B, 0x12, 0, 0, 'x', 'q', 0, 0x7E, 0, 9) // the class java.lang.Enum again
	w.str("NONE")
}

func (w *Writer) propertiesHead() {
	w.B = append(w.B, 0xAC, 0xED, 0, 5, 's')
	w.classDesc(runtime+"CheckpointProperties", 2, 2, 8)
	for _, f := range []string{"discardCancelled", "discardFailed", "discardFinished", "discardSubsumed", "discardSuspended", "forced", "unclaimed"} {
		w.U8('Z')
		w.UTF(f)
	}
	w.referenceField("checkpointType", "L"+runtimeL+"SnapshotType;")
	w.B = append(w.B, 'x', 'p')
}

func (w *Writer) classDesc(name string, flags byte, serial int64, fields int) {
	w.U8('r')
	w.UTF(name)
	w.I64(serial)
	w.B = append(w.B, flags, 0, byte(fields))
}

func (w *Writer) enumDesc(name string) {
	w.classDesc(name, 0x12, 0, 0)
	w.U8('x')
	w.classDesc("java.lang.Enum", 0x12, 0, 0)
	w.B = append(w.B, 'x', 'p')
}

func (w *Writer) referenceField(name, class string) {
	w.U8('L')
	w.UTF(name)
	w.str(class)
}

func (w *Writer) str(s string) {
	w.U8('t')
	w.UTF(s)
}

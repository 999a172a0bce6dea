package flinkmeta_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/ckptferry/ckptferry/flinkmeta"
	"github.com/ckptferry/ckptferry/flinkmeta/metadatatest"
)

// tailed is a version 4 file without operators and with the given tail.
func tailed(tail []byte) []byte {
	var w metadatatest.Writer
	w.Header(4, 7)
	w.I32(0)
	w.I32(0)
	return append(w.B, tail...)
}

func checkpointTail() []byte {
	var w metadatatest.Writer
	w.CheckpointTail()
	return w.B
}

// patched replaces the first occurrence of old in b.
func patched(t *testing.T, b []byte, old, with string) []byte {
	t.Helper()
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("no %q", old)
	}
	return bytes.Replace(b, []byte(old), []byte(with), 1)
}

func TestThePropertiesMustBeOneWholeObject(t *testing.T) {
	good := checkpointTail()
	if m := mustScan(t, tailed(good)); m.Kind != flinkmeta.KindCheckpoint || m.Properties.Type == "" {
		t.Fatalf("kind %q, type %q", m.Kind, m.Properties.Type)
	}
	for name, tail := range map[string][]byte{
		"nothing":                            {},
		"not Java":                           []byte("PK\x03\x04"),
		"another stream version":             patched(t, good, "\xAC\xED\x00\x05", "\xAC\xED\x00\x06"),
		"null":                               []byte("\xAC\xED\x00\x05p"),
		"a string":                           []byte("\xAC\xED\x00\x05t\x00\x01a"),
		"two objects":                        append(bytes.Clone(good), 'p'),
		"the end in block data":              append(bytes.Clone(good), 'w', 0),
		"an unknown type code":               patched(t, good, "\x00sr\x00\x32", "\x00\x01r\x00\x32"),
		"a reference to nothing":             patched(t, good, "\x00sr\x00\x32", "\x00q\x00\x7E\x00\x99"),
		"a boolean that is none":             patched(t, good, "xp\x00\x00\x01", "xp\x00\x00\x02"),
		"an unknown field type":              patched(t, good, "Z\x00\x06forced", "Y\x00\x06forced"),
		"more fields than bytes":             patched(t, good, "\x02\x00\x08Z", "\x02\xFF\xFFZ"),
		"another class":                      patched(t, good, "CheckpointProperties", "CheckpointPr0perties"),
		"another snapshot type":              patched(t, good, "checkpoint.CheckpointType", "checkpoint.CheckpointTyp3"),
		"no snapshot type":                   patched(t, good, "\x0echeckpointType", "\x0echeckpointTyp3"),
		"an enum constant that is no string": patched(t, good, "t\x00\x10FORWARD_BACKWARD", "q\x00\x7E\x00\x00"),
		"a class that is a string":           patched(t, good, "\x00sr\x00\x32", "\x00sq\x00\x7E\x00\x01"),
		"an object of an enum class":         patched(t, good, "~r", "sr"),
	} {
		_, err := flinkmeta.Scan(tailed(tail))
		if !errors.Is(err, flinkmeta.ErrProperties) && !errors.Is(err, flinkmeta.ErrTrailing) {
			t.Errorf("%s: %v, want ErrProperties or ErrTrailing", name, err)
		}
	}
}

func TestTheGrammarOfJavaObjectsIsWalkedToItsEnd(t *testing.T) {
	good := checkpointTail()
	long := "|\x00\x00\x00\x00\x00\x00\x00\x0a" // TC_LONGSTRING instead of TC_STRING
	for name, tail := range map[string][]byte{
		"null for a reference":     patched(t, good, "t\x00\x0aCheckpoint~", "p~"),
		"a long string":            patched(t, good, "t\x00\x0aCheckpoint~", long+"Checkpoint~"),
		"an array of bytes":        patched(t, good, "t\x00\x0aCheckpoint~", "ur\x00\x02[B\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00xp\x00\x00\x00\x03abc~"),
		"an array of strings":      patched(t, good, "t\x00\x0aCheckpoint~", "ur\x00\x02[L\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00xp\x00\x00\x00\x02pt\x00\x01a~"),
		"a class":                  patched(t, good, "t\x00\x0aCheckpoint~", "vr\x00\x01C\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00xp~"),
		"a proxy class":            patched(t, good, "t\x00\x0aCheckpoint~", "s}\x00\x00\x00\x01\x00\x01Ixp~"),
		"an annotated class":       patched(t, good, "xp\x00\x00\x01\x01", "w\x02ab"+"z\x00\x00\x00\x01c"+"pxp\x00\x00\x01\x01"),
		"what writeObject wrote":   patched(t, good, "t\x00\x0aCheckpoint~", "sr\x00\x01C\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x01I\x00\x01ixp\x00\x00\x00\x01w\x01xx~"),
		"an externalizable object": patched(t, good, "t\x00\x0aCheckpoint~", "sr\x00\x01C\x00\x00\x00\x00\x00\x00\x00\x00\x0c\x00\x00xpw\x01xx~"),
	} {
		b := tailed(tail)
		m, err := flinkmeta.Scan(b)
		if err != nil || m.Kind != flinkmeta.KindCheckpoint {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for n := range b {
			if _, err := flinkmeta.Scan(b[:n]); err == nil {
				t.Errorf("%s: the first %d bytes are accepted", name, n)
			}
		}
	}
	// Without block data marks, an externalizable object ends where only its class knows.
	opaque := patched(t, good, "t\x00\x0aCheckpoint~", "sr\x00\x01C\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00xpx~")
	if _, err := flinkmeta.Scan(tailed(opaque)); !errors.Is(err, flinkmeta.ErrProperties) {
		t.Errorf("an object of unknown length: %v", err)
	}
}

func TestHostilePropertiesEndSoon(t *testing.T) {
	head := "\xAC\xED\x00\x05"
	class := "r\x00\x01C\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00"
	for name, tail := range map[string]string{
		"objects within objects":     head + strings.Repeat("s"+class+"\x01L\x00\x01ft\x00\x01Oxp", 1000),
		"classes above classes":      head + "s" + strings.Repeat(class+"\x00x", 1000) + "p",
		"annotations in annotations": head + "s" + strings.Repeat(class+"\x00", 1000),
		"a class above itself":       head + "s" + class + "\x00xq\x00\x7E\x00\x00",
		"megabytes":                  head + "t" + strings.Repeat("\x00\x00t", 1<<20),
		"enums within enums":         head + strings.Repeat("~"+class+"\x00xp", 1000),
	} {
		if _, err := flinkmeta.Scan(tailed([]byte(tail))); !errors.Is(err, flinkmeta.ErrProperties) {
			t.Errorf("%s: %v, want ErrProperties", name, err)
		}
	}
}

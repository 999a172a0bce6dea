package flinkmeta

import (
	"fmt"
)

// From version 4 on a _metadata ends in a CheckpointProperties, written by java.io.ObjectOutputStream, without a length.
// A file that was cut within it looks whole up to there, so the stream is walked to its end: by the grammar of the Java
// Object Serialization Specification, chapter 6, without giving the objects a meaning.

// Properties is what the tail of the file says. Source: o.a.f.runtime.checkpoint.CheckpointProperties, 1.16 - 2.3.
type Properties struct {
	Type  string          // class of the snapshot type, e.g. "o.a.f.runtime.checkpoint.SavepointType", in full
	Flags map[string]bool // by field name: forced, unclaimed, discardSubsumed, discardFinished, discardCancelled, …
}

const (
	propertiesClass     = "org.apache.flink.runtime.checkpoint.CheckpointProperties"
	checkpointTypeClass = "org.apache.flink.runtime.checkpoint.CheckpointType"
	savepointTypeClass  = "org.apache.flink.runtime.checkpoint.SavepointType"

	// maxProperties bounds the tail: real ones have 604 to 745 bytes.
	maxProperties = 64 << 10
	// maxJavaNesting bounds objects in objects and classes above classes: real ones have 3.
	maxJavaNesting = 16
)

// Type codes and flags of java.io.ObjectStreamConstants.
const (
	tcNull           = 0x70
	tcReference      = 0x71
	tcClassDesc      = 0x72
	tcObject         = 0x73
	tcString         = 0x74
	tcArray          = 0x75
	tcClass          = 0x76
	tcBlockData      = 0x77
	tcEndBlockData   = 0x78
	tcBlockDataLong  = 0x7A
	tcLongString     = 0x7C
	tcProxyClassDesc = 0x7D
	tcEnum           = 0x7E

	scWriteMethod    = 1
	scSerializable   = 2
	scExternalizable = 4
	scBlockData      = 8

	javaMagic      = 0xACED
	javaVersion    = 5
	baseWireHandle = 0x7E0000
)

// properties walks the tail and takes from it what kind of snapshot the file is of.
func (s *scanner) properties() {
	at := s.pos
	if s.left() > maxProperties {
		s.failf(at, "properties", ErrProperties, "%d bytes, at most %d are plausible", s.left(), maxProperties)
		return
	}
	j := &javaReader{reader: &s.reader}
	magic, version := s.u16("properties magic"), s.u16("properties stream version")
	if s.err == nil && (magic != javaMagic || version != javaVersion) {
		s.failf(at, "properties", ErrProperties, "no stream of Java objects")
		return
	}
	root := j.content(0)
	switch {
	case s.err != nil:
		s.err.Err = fmt.Errorf("%w: %w", ErrProperties, s.err.Err)
		return
	case s.left() > 0:
		s.failf(s.pos, "end of file", ErrTrailing, "%d bytes", s.left())
		return
	case root == nil || root.class == nil || root.class.name != propertiesClass:
		s.failf(at, "properties", ErrProperties, "no %s", propertiesClass)
		return
	}
	if t := root.fields["checkpointType"]; t != nil && t.class != nil {
		s.m.Properties.Type = t.class.name
	}
	s.m.Properties.Flags = root.booleans
	switch s.m.Properties.Type {
	case checkpointTypeClass:
		s.m.Kind = KindCheckpoint
	case savepointTypeClass:
		s.m.Kind = KindSavepoint
	default:
		s.failf(at, "snapshot type", ErrProperties, "class %q", s.m.Properties.Type)
	}
}

// javaReader walks one ObjectOutputStream.
type javaReader struct {
	*reader
	handles []*javaValue // by wire handle, in order of appearance
}

// javaValue is as much of an object as the rest of the stream, or we, need to know of it.
type javaValue struct {
	class    *javaClass            // of an object, enum constant or array
	desc     *javaClass            // of a class descriptor itself
	text     bool                  // a string
	fields   map[string]*javaValue // references of an object, by field name
	booleans map[string]bool
}

type javaClass struct {
	name   string
	flags  byte
	fields []javaField
	super  *javaClass
}

type javaField struct {
	code byte // B C D F I J S Z, L and [
	name string
}

func (j *javaReader) assign(v *javaValue) *javaValue {
	j.handles = append(j.handles, v)
	return v
}

// content walks one content element. nil is null, or, after an error, anything.
func (j *javaReader) content(depth int) *javaValue {
	at := j.pos
	code := j.u8("java type code")
	if depth > maxJavaNesting {
		j.fail(at, "java object", ErrNesting)
	}
	if j.err != nil {
		return nil
	}
	switch code {
	case tcNull:
		return nil
	case tcReference:
		return j.reference()
	case tcClassDesc, tcProxyClassDesc:
		j.pos = at
		return &javaValue{desc: j.classDesc(depth)}
	case tcObject:
		return j.object(depth)
	case tcString:
		j.utf("java string")
		return j.assign(&javaValue{text: true})
	case tcLongString:
		j.longString()
		return j.assign(&javaValue{text: true})
	case tcArray:
		return j.array(depth)
	case tcClass:
		return j.assign(&javaValue{desc: j.classDesc(depth + 1)})
	case tcEnum:
		v := &javaValue{class: j.classDesc(depth + 1)}
		j.assign(v)
		if name := j.content(depth + 1); j.err == nil && (name == nil || !name.text) {
			j.failf(at, "java enum constant", ErrValue, "its name is no string")
		}
		return v
	default:
		// Exceptions and resets (7B, 79) end what was written; block data stands in annotations only.
		j.failf(at, "java type code", ErrValue, "%#02x", code)
		return nil
	}
}

func (j *javaReader) reference() *javaValue {
	at := j.pos
	i := int64(j.i32("java reference")) - baseWireHandle
	if j.err != nil {
		return nil
	}
	if i < 0 || i >= int64(len(j.handles)) {
		j.failf(at, "java reference", ErrValue, "to object %d of %d", i, len(j.handles))
		return nil
	}
	return j.handles[i]
}

func (j *javaReader) longString() {
	at := j.pos
	n := j.i64("java string length")
	if n < 0 || n > int64(j.left()) {
		j.failf(at, "java string length", ErrCount, "%d", n)
		return
	}
	j.skip(int(n), "java string")
}

// classDesc walks a class descriptor with its superclasses; nil for null.
func (j *javaReader) classDesc(depth int) *javaClass {
	at := j.pos
	code := j.u8("java class descriptor")
	if depth > maxJavaNesting {
		j.fail(at, "java class descriptor", ErrNesting)
	}
	if j.err != nil {
		return nil
	}
	switch code {
	case tcNull:
		return nil
	case tcReference:
		v := j.reference()
		if j.err == nil && (v == nil || v.desc == nil) {
			j.failf(at, "java class descriptor", ErrValue, "the reference is to no class")
			return nil
		}
		if v == nil {
			return nil
		}
		return v.desc
	case tcClassDesc:
		return j.newClassDesc(depth)
	case tcProxyClassDesc:
		c := &javaClass{name: "(proxy)", flags: scSerializable}
		j.assign(&javaValue{desc: c})
		for range j.count("java proxy interface count", 2) {
			j.utf("java proxy interface")
		}
		j.annotation(depth)
		c.super = j.classDesc(depth + 1)
		return c
	default:
		j.failf(at, "java class descriptor", ErrValue, "type code %#02x", code)
		return nil
	}
}

func (j *javaReader) newClassDesc(depth int) *javaClass {
	c := &javaClass{name: decodeMUTF8(j.utf("java class name"))}
	j.i64("java serial version")
	j.assign(&javaValue{desc: c})
	c.flags = j.u8("java class flags")
	at := j.pos
	n := j.u16("java field count")
	if n > j.left()/3 {
		j.failf(at, "java field count", ErrTruncated, "%d fields, %d bytes left", n, j.left())
		return c
	}
	for range n {
		at := j.pos
		f := javaField{code: j.u8("java field type"), name: decodeMUTF8(j.utf("java field name"))}
		if j.err != nil {
			return c
		}
		switch f.code {
		case 'B', 'C', 'D', 'F', 'I', 'J', 'S', 'Z':
		case 'L', '[':
			if t := j.content(depth + 1); j.err == nil && (t == nil || !t.text) {
				j.failf(at, "java field type", ErrValue, "its class name is no string")
			}
		default:
			j.failf(at, "java field type", ErrValue, "%#02x", f.code)
		}
		c.fields = append(c.fields, f)
	}
	j.annotation(depth)
	c.super = j.classDesc(depth + 1)
	return c
}

// annotation walks what writeObject or annotateClass wrote, up to its end mark.
func (j *javaReader) annotation(depth int) {
	for j.err == nil {
		if j.left() == 0 {
			j.truncated("java annotation", 1)
			return
		}
		switch j.b[j.pos] {
		case tcEndBlockData:
			j.pos++
			return
		case tcBlockData:
			j.pos++
			j.skip(int(j.u8("java block length")), "java block")
		case tcBlockDataLong:
			j.pos++
			j.raw("java block length")
		default:
			j.content(depth + 1)
		}
	}
}

func (j *javaReader) object(depth int) *javaValue {
	at := j.pos
	v := &javaValue{class: j.classDesc(depth + 1), fields: map[string]*javaValue{}, booleans: map[string]bool{}}
	j.assign(v)
	if j.err == nil && v.class == nil {
		j.failf(at, "java object", ErrValue, "it has no class")
	}
	var lineage []*javaClass // the most basic class is written first
	for c := v.class; c != nil && j.err == nil; c = c.super {
		if lineage = append(lineage, c); len(lineage) > maxJavaNesting {
			j.fail(at, "java class", ErrNesting)
		}
	}
	for i := len(lineage) - 1; i >= 0 && j.err == nil; i-- {
		j.classFields(v, lineage[i], depth)
	}
	return v
}

func (j *javaReader) classFields(v *javaValue, c *javaClass, depth int) {
	switch {
	case c.flags&scSerializable != 0:
		for _, f := range c.fields {
			j.value(f, v, depth)
			if j.err != nil {
				return
			}
		}
		if c.flags&scWriteMethod != 0 {
			j.annotation(depth)
		}
	case c.flags&scExternalizable != 0 && c.flags&scBlockData != 0:
		j.annotation(depth)
	default:
		j.failf(j.pos, "java class flags", ErrValue, "%#02x of %s: its objects can't be walked", c.flags, c.name)
	}
}

// value walks one field or array element and keeps in v what properties asks for.
func (j *javaReader) value(f javaField, v *javaValue, depth int) {
	switch f.code {
	case 'B':
		j.skip(1, f.name)
	case 'Z':
		at := j.pos
		b := j.u8(f.name)
		if b > 1 {
			j.failf(at, "java boolean", ErrValue, "%d", b)
		}
		if v.booleans != nil {
			v.booleans[f.name] = b == 1
		}
	case 'C', 'S':
		j.skip(2, f.name)
	case 'F', 'I':
		j.skip(4, f.name)
	case 'D', 'J':
		j.skip(8, f.name)
	default:
		if o := j.content(depth + 1); v.fields != nil {
			v.fields[f.name] = o
		}
	}
}

func (j *javaReader) array(depth int) *javaValue {
	at := j.pos
	v := &javaValue{class: j.classDesc(depth + 1)}
	j.assign(v)
	n := j.count("java array length", 1)
	if j.err != nil {
		return nil
	}
	if v.class == nil || len(v.class.name) < 2 || v.class.name[0] != '[' {
		j.failf(at, "java array", ErrValue, "it has no array class")
		return nil
	}
	for range n {
		if j.value(javaField{code: v.class.name[1]}, v, depth); j.err != nil {
			return nil
		}
	}
	return v
}

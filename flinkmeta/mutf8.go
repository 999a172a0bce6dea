package flinkmeta

import (
	"encoding/binary"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// maxUTF is the longest string of java.io.DataOutputStream.writeUTF, in bytes of modified UTF-8.
const maxUTF = 0xFFFF

// view is b as a string without a copy. The bytes of a Metadata never change (see Scan), and a large _metadata holds
// more than ten megabytes of paths: copying each would cost the file's size again.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

const highBits = 0x8080808080808080

// isASCII says whether no byte of b has its high bit set; eight bytes at a time, as most strings of a file go through it.
func isASCII(b []byte) bool {
	for len(b) >= 16 {
		if (binary.LittleEndian.Uint64(b)|binary.LittleEndian.Uint64(b[8:]))&highBits != 0 {
			return false
		}
		b = b[16:]
	}
	var or byte
	for _, c := range b {
		or |= c
	}
	return or < utf8.RuneSelf
}

// validMUTF8 says whether java.io.DataInputStream.readUTF accepts b: one to three byte forms, never a four byte one;
// over-long forms and lone surrogates pass there, so they do here.
func validMUTF8(b []byte) bool {
	if isASCII(b) {
		return true
	}
	for i := 0; i < len(b); {
		n := 1
		switch c := b[i]; {
		case c < 0x80:
		case c>>5 == 0b110:
			n = 2
		case c>>4 == 0b1110:
			n = 3
		default:
			return false
		}
		if i+n > len(b) {
			return false
		}
		for _, c := range b[i+1 : i+n] {
			if c>>6 != 0b10 {
				return false
			}
		}
		i += n
	}
	return true
}

// decodeMUTF8 is the text of valid modified UTF-8. Plain ASCII shares memory with b. A lone surrogate becomes U+FFFD.
func decodeMUTF8(b []byte) string {
	if isASCII(b) {
		return view(b)
	}
	units := make([]uint16, 0, len(b))
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c < 0x80:
			units = append(units, uint16(c))
			i++
		case c>>5 == 0b110:
			units = append(units, uint16(c&0x1F)<<6|uint16(b[i+1]&0x3F))
			i += 2
		default:
			units = append(units, uint16(c&0x0F)<<12|uint16(b[i+1]&0x3F)<<6|uint16(b[i+2]&0x3F))
			i += 3
		}
	}
	return string(utf16.Decode(units))
}

// encodeMUTF8 is s as writeUTF writes it, without the length. ASCII without NUL is s itself, not copied.
func encodeMUTF8(s string) (string, error) {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i]-1 < utf8.RuneSelf-1
	}
	if plain {
		if len(s) > maxUTF {
			return "", fmt.Errorf("%w: %d bytes", ErrPathTooLong, len(s))
		}
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%w: %q is not UTF-8", ErrPath, s)
	}
	out := make([]byte, 0, len(s)+8)
	for _, r := range s {
		switch {
		case r == 0:
			out = append(out, 0xC0, 0x80)
		case r < 0x10000:
			out = utf8.AppendRune(out, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			out = appendUnit(appendUnit(out, hi), lo)
		}
	}
	if len(out) > maxUTF {
		return "", fmt.Errorf("%w: %d bytes", ErrPathTooLong, len(out))
	}
	return view(out), nil
}

// appendUnit appends one UTF-16 code unit above U+07FF in three bytes, surrogates included.
func appendUnit(b []byte, u rune) []byte {
	return append(b, 0xE0|byte(u>>12), 0x80|byte(u>>6)&0xBF, 0x80|byte(u)&0xBF)
}

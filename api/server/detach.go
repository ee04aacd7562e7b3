package server

import (
	"bytes"
	"io"
	"strings"
)

// detachKeys reads "ctrl-p,ctrl-q"; "" is this default.
func detachKeys(s string) ([]byte, error) {
	if s == "" {
		s = "ctrl-p,ctrl-q"
	}
	var out []byte
	for _, key := range strings.Split(s, ",") {
		b, ok := keyCode(key)
		if !ok {
			return nil, invalid("Invalid detach keys (%s) provided", s)
		}
		out = append(out, b)
	}
	return out, nil
}

func keyCode(key string) (byte, bool) {
	if len(key) == 1 {
		return key[0], key[0] < 0x80
	}
	name, ok := strings.CutPrefix(strings.ToLower(key), "ctrl-")
	if !ok || len(name) != 1 {
		return 0, false
	}
	switch c := name[0]; {
	case c >= 'a' && c <= 'z':
		return c - 'a' + 1, true
	case c == '@':
		return 0, true
	case c >= '[' && c <= '_': // [ \ ] ^ _
		return c - '[' + 27, true
	}
	return 0, false
}

// copyEscaped copies src to dst until src ends or keys were typed, which are
// not passed on. Keys that turn out not to be the sequence are.
func copyEscaped(dst io.Writer, src io.Reader, keys []byte) (escaped bool, err error) {
	buf := make([]byte, 32<<10)
	held := 0 // how many of keys have been seen at the end
	for {
		n, rerr := src.Read(buf)
		if n > 0 {
			out, seen, escaped := scanKeys(buf[:n], held, keys)
			if _, err := dst.Write(out); err != nil {
				return false, err
			}
			if escaped {
				return true, nil
			}
			held = seen
		}
		if rerr != nil {
			if held > 0 {
				_, err = dst.Write(keys[:held])
			}
			return false, err
		}
	}
}

// scanKeys returns what of p may be passed on, after held bytes of keys that
// were kept back before, and how many are kept back now.
func scanKeys(p []byte, held int, keys []byte) (out []byte, seen int, escaped bool) {
	if held == 0 && bytes.IndexByte(p, keys[0]) < 0 {
		return p, 0, false // the common case costs no copy
	}
	for _, b := range p {
		for held > 0 && b != keys[held] {
			out = append(out, keys[0]) // the sequence cannot have begun here
			held = longestPrefix(keys, held)
		}
		if b != keys[held] {
			out = append(out, b)
			continue
		}
		if held++; held == len(keys) {
			return out, 0, true
		}
	}
	return out, held, false
}

// longestPrefix is how much of keys[1:held] begins keys again; one byte less
// at a time, because one was passed on.
func longestPrefix(keys []byte, held int) int {
	if bytes.HasPrefix(keys, keys[1:held]) {
		return held - 1
	}
	return 0
}

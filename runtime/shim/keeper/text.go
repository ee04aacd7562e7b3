package keeper

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

func itoa(v int) string { return strconv.Itoa(v) }

// maxMessage bounds what is kept of a runtime's message.
const maxMessage = 8 << 10

// runtimeMessage takes the last error out of a log in the OCI runtimes' JSON
// format: one object a line, with "level" and "msg".
func runtimeMessage(log []byte) string {
	last := ""
	for line := range bytes.Lines(log) {
		if !bytes.Contains(line, []byte(`"level":"error"`)) && !bytes.Contains(line, []byte(`"level":"fatal"`)) {
			continue
		}
		if i := bytes.Index(line, []byte(`"msg":"`)); i >= 0 {
			last = unquoteJSON(line[i+len(`"msg":"`):])
		}
	}
	return last[:min(len(last), maxMessage)]
}

// unquoteJSON reads a JSON string up to its closing quote.
func unquoteJSON(b []byte) string {
	var out []byte
	for i := 0; i < len(b) && b[i] != '"'; i++ {
		if b[i] != '\\' || i+1 >= len(b) {
			out = append(out, b[i])
			continue
		}
		i++
		switch b[i] {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r', 'b', 'f':
			out = append(out, ' ')
		case 'u':
			if i+4 < len(b) {
				if v, err := strconv.ParseUint(string(b[i+1:i+5]), 16, 32); err == nil {
					out = utf8.AppendRune(out, rune(v))
				}
				i += 4
			}
		default:
			out = append(out, b[i])
		}
	}
	return string(out)
}

// quoteJSON writes s as a JSON string.
func quoteJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// startCode is the exit code that Docker gives a process that could not be
// started, told from the runtime's message: 127 not found, 126 not
// executable, 128 anything else.
func startCode(message string) uint64 {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(message, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("executable file not found", "no such file or directory", "system cannot find the file specified"):
		return 127
	case has("permission denied", "is a directory", "exec format error", "not a directory"):
		return 126
	}
	return 128
}

// exitJSON is the content of exit.json.
func exitJSON(code, signal uint64, oom bool, at time.Time, message string) []byte {
	b := strconv.AppendUint([]byte(`{"code":`), code, 10)
	b = strconv.AppendUint(append(b, `,"signal":`...), signal, 10)
	b = strconv.AppendBool(append(b, `,"oomKilled":`...), oom)
	b = append(b, `,"at":"`...)
	b = append(at.UTC().AppendFormat(b, time.RFC3339Nano), '"')
	if message != "" {
		b = quoteJSON(append(b, `,"error":`...), message)
	}
	return append(b, "}\n"...)
}

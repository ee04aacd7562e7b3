package shim

import "bytes"

// detacher looks for the keys with which a person leaves a terminal. Keys that
// may be the beginning of the sequence are held back until the next ones tell.
type detacher struct {
	sequence []byte
	held     int
}

// filter returns what goes to the process, and whether the sequence is complete.
func (d *detacher) filter(p []byte) (rest []byte, detach bool) {
	if len(d.sequence) == 0 {
		return p, false
	}
	buf := append(append([]byte(nil), d.sequence[:d.held]...), p...)
	if i := bytes.Index(buf, d.sequence); i >= 0 {
		d.held = 0
		return buf[:i], true
	}
	d.held = 0
	for n := min(len(d.sequence)-1, len(buf)); n > 0; n-- {
		if bytes.HasSuffix(buf, d.sequence[:n]) {
			d.held = n
			break
		}
	}
	return buf[:len(buf)-d.held], false
}

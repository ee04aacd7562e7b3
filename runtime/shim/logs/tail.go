package logs

import (
	"bytes"
	"os"

	"github.com/dhow-project/dhow/runtime/shim/logs/record"
)

// backSize is how much is read at once going backward.
const backSize = 64 << 10

// lineCounter finds where the last lines begin. A line is its last record with
// the partial records before it.
type lineCounter struct {
	left           int // lines still to be found
	stdout, stderr bool
}

// back goes backward through f. found: the wanted lines begin at the offset.
func (c *lineCounter) back(f *os.File) (at int64, found bool, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, false, err
	}
	end := st.Size() // of what is not looked at yet
	if c.left <= 0 && end > 0 {
		return end, true, nil
	}
	var carry []byte // the beginning of a line whose end was in the block behind
	for end > 0 {
		n := min(int64(backSize), end)
		block := make([]byte, n, n+int64(len(carry)))
		if _, err := f.ReadAt(block, end-n); err != nil {
			return 0, false, err
		}
		block = append(block, carry...)
		end -= n
		for {
			i := bytes.LastIndexByte(block[:max(len(block)-1, 0)], '\n')
			if i < 0 {
				break
			}
			if c.lineEnds(block[i+1:]) {
				if c.left == 0 {
					return end + int64(len(block)), true, nil
				}
				c.left--
			}
			block = block[:i+1]
		}
		if carry = block; len(carry) > record.MaxLen {
			carry = nil // damage: no record is that long
		}
	}
	if c.lineEnds(carry) {
		if c.left == 0 {
			return int64(len(carry)), true, nil
		}
		c.left--
	}
	return 0, false, nil
}

// lineEnds tells whether the line is the last record of a line that counts.
func (c *lineCounter) lineEnds(line []byte) bool {
	content, whole := bytes.CutSuffix(line, []byte("\n"))
	rec, ok := record.Parse(content)
	if !whole || !ok || rec.Tag == record.Partial {
		return false
	}
	return rec.Stream == record.Stdout && c.stdout || rec.Stream == record.Stderr && c.stderr
}

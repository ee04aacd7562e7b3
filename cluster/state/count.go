package state

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Count tells how many records of each table are in what Persist wrote. It keeps
// none of them, so that a look costs no memory.
func Count(r io.Reader) (map[Table]int, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	counts := map[Table]int{}
	for first := true; ; first = false {
		data, err := in.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("count records: %w", cutOff(err))
		}
		if first { // the header
			continue
		}
		var l line
		if err := l.parse(data); err != nil {
			return nil, fmt.Errorf("count records: %w", err)
		}
		if l.Table == tableEnd {
			break
		}
		counts[l.Table]++
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, errors.New("count records: there is more behind the end")
	}
	return counts, nil
}

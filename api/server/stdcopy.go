package server

import (
	"encoding/binary"
	"io"
)

// Numbers of the streams in a multiplexed stream.
const (
	stdoutFrame = 1
	stderrFrame = 2
)

const frameHeader = 8

// copyFrames copies src to dst as frames, each in one write.
func copyFrames(dst io.Writer, src io.Reader, stream byte) error {
	buf := make([]byte, frameHeader+32<<10)
	buf[0] = stream
	for {
		n, err := src.Read(buf[frameHeader:])
		if n > 0 {
			binary.BigEndian.PutUint32(buf[4:], uint32(n)) //nolint:gosec // at most the buffer
			if _, werr := dst.Write(buf[:frameHeader+n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF { //nolint:errorlint // readers return it bare
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// setFrameLength writes the length of a frame whose bytes follow its header in buf.
func setFrameLength(buf []byte) {
	binary.BigEndian.PutUint32(buf[4:], uint32(len(buf)-frameHeader)) //nolint:gosec // log lines are small
}

package record

import (
	"bytes"
	"strconv"
	"syscall"
	"time"
)

// batchSize is the most that one write(2) carries. Large enough that the
// call's cost does not matter, small enough to stay in the CPU's cache.
const batchSize = 256 << 10

// Writer writes the log of one container. It never fails and never waits for
// space: what cannot be written is counted and dropped, and a notice says how
// many lines were lost once a write succeeds again. It is not safe for
// concurrent use.
type Writer struct {
	cfg  Config
	fd   int   // -1 while there is no file (driver "none", or it could not be opened)
	size int64 // of the current file, whole records only

	batch   []byte // records not yet written; capacity batchSize+MaxLen, outside the Go heap
	records uint64 // lines in batch
	pending [2][]byte
	header  [2][]byte // time and stream of the current Write

	lost    uint64 // lines dropped since the last notice
	dropped uint64 // lines dropped in all
	reason  syscall.Errno
}

// Open opens or makes the log. A last record that was torn by a crash is
// removed and a notice of it written. The error is about a log that cannot be
// opened at all; the Writer is usable nevertheless and keeps trying.
func Open(cfg Config, now time.Time) (*Writer, error) {
	w := &Writer{cfg: cfg, fd: -1}
	if cfg.Driver == "none" {
		return w, nil
	}
	for i := range w.header {
		w.header[i] = make([]byte, 0, HeaderLen)
	}
	batch, err := syscall.Mmap(-1, 0, batchSize+MaxLen, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		batch = make([]byte, batchSize+MaxLen)
	}
	w.batch = batch[:0]
	if err := w.open(); err != nil {
		return w, err
	}
	if torn := w.repair(); torn > 0 {
		w.notice(now, "a torn record of "+strconv.FormatInt(torn, 10)+" bytes was removed")
	}
	return w, nil
}

func (w *Writer) open() error {
	fd, err := syscall.Open(w.cfg.Path, syscall.O_RDWR|syscall.O_APPEND|syscall.O_CREAT|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		syscall.Close(fd)
		return err
	}
	w.fd, w.size = fd, st.Size
	return nil
}

// repair cuts the file after its last newline and returns how much it cut.
func (w *Writer) repair() (torn int64) {
	buf := make([]byte, 4096)
	end := w.size
	for pos := end; pos > 0; {
		n := min(int64(len(buf)), pos)
		if _, err := syscall.Pread(w.fd, buf[:n], pos-n); err != nil {
			return 0
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			end = pos - n + int64(i) + 1
			break
		}
		pos -= n
		end = pos
	}
	torn = w.size - end
	if torn > 0 && syscall.Ftruncate(w.fd, end) == nil {
		w.size = end
		return torn
	}
	return 0
}

// Write takes output as it was read and writes the records that it completes.
func (w *Writer) Write(s Stream, p []byte, now time.Time) {
	if w.cfg.Driver == "none" || len(p) == 0 {
		return
	}
	w.stamp(now)
	if len(w.pending[s]) > 0 {
		p = w.complete(s, p)
	}
	for len(p) > 0 {
		i := bytes.IndexByte(p[:min(len(p), MaxContent+1)], '\n')
		switch {
		case i >= 0:
			w.add(s, Full, p[:i])
			p = p[i+1:]
		case len(p) > MaxContent:
			w.add(s, Partial, p[:MaxContent])
			p = p[MaxContent:]
		default:
			w.pending[s] = append(w.pending[s][:0], p...)
			p = nil
		}
	}
	w.writeBatch()
}

// complete adds p to the pending line of s, and returns what is left of p
// after the record that came of it.
func (w *Writer) complete(s Stream, p []byte) []byte {
	room := MaxContent - len(w.pending[s])
	i := bytes.IndexByte(p[:min(len(p), room+1)], '\n')
	take := i
	if i < 0 {
		take = min(len(p), room)
	}
	w.pending[s] = append(w.pending[s], p[:take]...)
	switch {
	case i >= 0:
		w.add(s, Full, w.pending[s])
		take++
	case take < len(p):
		w.add(s, Partial, w.pending[s])
	default:
		return nil
	}
	w.pending[s] = w.pending[s][:0]
	return p[take:]
}

// stamp prepares the headers of this moment's records.
func (w *Writer) stamp(now time.Time) {
	for i := range w.header {
		w.header[i] = append(appendTime(w.header[i][:0], now), headers[i]...)
	}
}

func (w *Writer) add(s Stream, tag byte, content []byte) {
	length := int64(HeaderLen + len(content) + 1)
	at := w.size + int64(len(w.batch))
	if w.cfg.MaxSize > 0 && at > 0 && at+length > w.cfg.MaxSize {
		w.writeBatch()
		w.rotate()
	} else if len(w.batch) >= batchSize {
		w.writeBatch()
	}
	w.batch = append(w.batch, w.header[s]...)
	w.batch = append(w.batch, tag, ' ')
	w.batch = append(w.batch, content...)
	w.batch = append(w.batch, '\n')
	w.records++
}

// writeBatch writes what was added, after a notice when lines were lost before.
func (w *Writer) writeBatch() {
	if len(w.batch) == 0 {
		return
	}
	if w.lost > 0 && !w.noteLoss() {
		w.drop()
		return
	}
	if !w.write(w.batch) {
		w.drop()
	}
	w.batch, w.records = w.batch[:0], 0
}

// noteLoss writes that lines were lost. The time is that of the current batch.
func (w *Writer) noteLoss() bool {
	if len(w.header[Stderr]) == 0 {
		return false
	}
	line := append([]byte(nil), w.header[Stderr]...)
	line = append(line, Notice, ' ')
	line = append(line, strconv.FormatUint(w.lost, 10)+" lines lost: "+w.reason.Error()+"\n"...)
	if !w.write(line) {
		return false
	}
	w.lost = 0
	return true
}

func (w *Writer) notice(now time.Time, text string) {
	w.stamp(now)
	if text == "" {
		w.noteLoss()
		return
	}
	line := append([]byte(nil), w.header[Stderr]...)
	w.write(append(append(line, Notice, ' '), text+"\n"...))
}

func (w *Writer) drop() {
	w.lost += w.records
	w.dropped += w.records
	w.batch, w.records = w.batch[:0], 0
}

// write appends b as a whole or leaves the file as it was.
func (w *Writer) write(b []byte) bool {
	if w.fd < 0 {
		if err := w.open(); err != nil {
			w.reason, _ = err.(syscall.Errno)
			return false
		}
	}
	done := 0
	for done < len(b) {
		n, err := syscall.Write(w.fd, b[done:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			w.reason, _ = err.(syscall.Errno)
			if done > 0 {
				_ = syscall.Ftruncate(w.fd, w.size) // readers pass over half a record
			}
			return false
		}
		done += n
	}
	w.size += int64(done)
	return true
}

// rotate makes PATH the first of the older files and begins a new one. With a
// single file the old content goes; readers that have it open finish it.
func (w *Writer) rotate() {
	if w.fd >= 0 {
		syscall.Close(w.fd)
		w.fd = -1
	}
	if w.cfg.MaxFiles <= 1 {
		syscall.Unlink(w.cfg.Path)
	}
	for i := w.cfg.MaxFiles - 1; i > 0; i-- {
		_ = syscall.Rename(Name(w.cfg.Path, i-1), Name(w.cfg.Path, i)) // most are not there yet
	}
	w.size = 0
	if err := w.open(); err != nil {
		w.reason, _ = err.(syscall.Errno)
	}
}

// Name is the path of the n-th older file; 0 is the current one.
func Name(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// Pending is what came on s after the last record.
func (w *Writer) Pending(s Stream) []byte { return w.pending[s] }

// Dropped counts the lines that were lost since Open.
func (w *Writer) Dropped() uint64 { return w.dropped }

// Position identifies the end of what is written: the current file's inode and
// its size. The inode is 0 when there is no file.
func (w *Writer) Position() (inode uint64, offset int64) {
	var st syscall.Stat_t
	if w.fd < 0 || syscall.Fstat(w.fd, &st) != nil {
		return 0, 0
	}
	return st.Ino, w.size
}

// Trim gives the memory of the batch back while nothing is logged.
func (w *Writer) Trim() {
	if cap(w.batch) > 0 && len(w.batch) == 0 {
		syscall.Madvise(w.batch[:cap(w.batch)], syscall.MADV_DONTNEED)
	}
}

// End writes the unfinished line of a stream that has ended.
func (w *Writer) End(s Stream, now time.Time) {
	if len(w.pending[s]) == 0 {
		return
	}
	w.stamp(now)
	w.add(s, End, w.pending[s])
	w.pending[s] = nil
	w.writeBatch()
}

// Close ends both streams and closes the file.
func (w *Writer) Close(now time.Time) {
	if w.cfg.Driver == "none" {
		return
	}
	w.End(Stdout, now)
	w.End(Stderr, now)
	if w.lost > 0 {
		w.notice(now, "")
	}
	if w.fd >= 0 {
		syscall.Close(w.fd)
		w.fd = -1
	}
}

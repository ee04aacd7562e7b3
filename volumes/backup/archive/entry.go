package archive

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// The kinds of entry, by their tar type flags.
const (
	File    = '0'
	Link    = '1' // hard link; Target is an earlier entry
	Symlink = '2'
	Char    = '3'
	Block   = '4'
	Dir     = '5'
	Fifo    = '6'
)

// Entry is one file, directory or link of a tree.
type Entry struct {
	Name         string // relative, slash-separated, "" is the root; any bytes but NUL
	Kind         byte
	Mode         uint32 // permission bits with setuid, setgid, sticky
	UID, GID     int
	Size         int64 // of a File: bytes, holes included
	Target       string
	Major, Minor uint32
	Mtime, Atime unix.Timespec
	Xattrs       map[string][]byte
	Holes        bool        // a File with holes: only Data is stored
	Data         []fsx.Range // the parts that are stored, in order
}

// stored is the number of content bytes in the archive, without the hole map.
func (e *Entry) stored() int64 {
	if !e.Holes {
		return e.Size
	}
	var n int64
	for _, r := range e.Data {
		n += r.Len
	}
	return n
}

// Record is what the index says about one entry.
type Record struct {
	Name string `json:"n"`
	Raw  []byte `json:"b,omitempty"` // the name, when it is not UTF-8
	Kind string `json:"t"`           // tar type flag
	Size int64  `json:"s,omitempty"`
	// Sum is the SHA-256 of a File's bytes as stored: of the content, or, when
	// Holes is set, of the hole map and the stored parts.
	Sum   string `json:"h,omitempty"`
	Holes bool   `json:"sparse,omitempty"`
}

// Summary of a written tree.
type Summary struct {
	Files    int64 // entries of any kind
	Bytes    int64 // content, holes not counted
	Stored   int64 // bytes written
	Warnings []string
}

// maxWarnings keeps reports readable; the last one says how many more there are.
const maxWarnings = 20

type warnings struct {
	list []string
	more int
}

func (w *warnings) add(s string) {
	if len(w.list) < maxWarnings {
		w.list = append(w.list, s)
	} else {
		w.more++
	}
}

func (w *warnings) result() []string {
	if w.more == 0 {
		return w.list
	}
	return append(w.list, "and "+strconv.Itoa(w.more)+" more")
}

package main

import (
	"archive/tar"
	"fmt"
	"strconv"

	"github.com/dhow-project/dhow/runtime"
)

// leftOut counts what a copy out of a container does not bring, by kind.
type leftOut struct {
	kinds  []string // in the order they were met
	counts map[string]int
}

// The kinds, as they are told.
const (
	kindBits     = "setuid, setgid and sticky bits not kept: %d files (--archive keeps them)"
	kindDevice   = "devices left out: %d (--archive copies them)"
	kindFIFO     = "FIFOs left out: %d (--archive copies them)"
	kindRootOnly = "devices left out, which only root can make: %d"
	kindSocket   = "sockets left out, which cannot be copied: %d"
	kindOther    = "files of a kind that cannot be copied left out: %d"
)

// unwanted is the kind of an entry that is not made, "" for one that is.
func unwanted(flag byte, archive bool) string {
	switch flag {
	case tar.TypeDir, tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
		return ""
	case tar.TypeChar, tar.TypeBlock:
		if !archive {
			return kindDevice
		}
		return ""
	case tar.TypeFifo:
		if !archive {
			return kindFIFO
		}
		return ""
	}
	return kindOther
}

func (l *leftOut) add(kind string) { l.addN(kind, 1) }

func (l *leftOut) addN(kind string, n int) {
	if n <= 0 {
		return
	}
	if l.counts == nil {
		l.counts = map[string]int{}
	}
	if l.counts[kind] == 0 {
		l.kinds = append(l.kinds, kind)
	}
	l.counts[kind] += n
}

// sockets takes the number that the daemon writes behind the archive.
func (l *leftOut) sockets(records map[string]string) {
	n, _ := strconv.Atoi(records[runtime.ArchiveSockets]) // an archive of another daemon has none
	l.addN(kindSocket, n)
}

// warnings has one line for each kind.
func (l *leftOut) warnings(from string) []string {
	var out []string
	for _, kind := range l.kinds {
		out = append(out, from+": "+fmt.Sprintf(kind, l.counts[kind]))
	}
	return out
}

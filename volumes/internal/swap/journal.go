package swap

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// state is the journal's content, as JSON. The phase comes first, and spaces
// behind it make place for the longest: so it is overwritten where it stands,
// in one small write that needs no space on a full disk.
type state struct {
	Phase   string `json:"phase"`
	Root    string `json:"root"`
	Base    string `json:"base"` // holds the directories below
	Durable bool   `json:"durable,omitempty"`
}

func (st *state) stage() string   { return filepath.Join(st.Base, Prefix+"new") }
func (st *state) old() string     { return filepath.Join(st.Base, Prefix+"old") }
func (st *state) newMeta() string { return filepath.Join(st.Base, Prefix+"new-meta") } // empty; has the attributes of the new root
func (st *state) oldMeta() string { return filepath.Join(st.Base, Prefix+"old-meta") } // empty; has the attributes of the old root

// The phases of the journal. The undo phases follow an error in out or in.
const (
	phaseStage   = "stage"
	phaseOut     = "out"
	phaseIn      = "in"
	phaseUndoIn  = "undo-in"  // new entries go back to the stage
	phaseUndoOut = "undo-out" // old entries go back to the root
)

// head is the part of a journal that a change of phase overwrites; its length
// is that of every other's.
func head(phase string) []byte {
	return fmt.Appendf(nil, "{%q:%-*q,", "phase", len(phaseUndoOut)+2, phase)
}

// create writes the journal of a swap that begins.
func (st *state) create(journal string) error {
	rest, err := json.Marshal(struct {
		Root    string `json:"root"`
		Base    string `json:"base"`
		Durable bool   `json:"durable,omitempty"`
	}{st.Root, st.Base, st.Durable})
	if err != nil {
		return err
	}
	return fsx.WriteFile(journal, append(head(st.Phase), rest[1:]...), st.Durable)
}

// write enters the next phase. After an error the journal has the phase before
// or the next; both describe what is there.
func (st *state) write(journal, phase string) error {
	f, err := os.OpenFile(journal, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(head(phase), 0)
	if err == nil && st.Durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	st.Phase = phase
	return nil
}

func read(journal string) (st state, err error) {
	data, err := os.ReadFile(journal)
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil || st.Root == "" || st.Base == "" {
		return st, fmt.Errorf("swap journal %s is unreadable: %w", journal, errors.Join(err, fs.ErrInvalid))
	}
	return st, nil
}

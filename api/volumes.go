package api

import "time"

// BackupMode says what happens to the users of a volume during a backup.
type BackupMode string

// The modes. Users that were paused or stopped are always resumed.
const (
	BackupLive  BackupMode = "live" // they run on
	BackupPause BackupMode = "pause"
	BackupStop  BackupMode = "stop"
)

// BackupRequest is the body of POST /dhow/v1/volumes/{name}/backup.
type BackupRequest struct {
	To   string     `json:"to"`             // repository: a path or file:// on the daemon's machine
	Mode BackupMode `json:"mode,omitempty"` // "": pause
}

// Backup describes one backup in a repository.
type Backup struct {
	ID       string            `json:"id"` // sorts by time within a volume
	Volume   string            `json:"volume"`
	Created  time.Time         `json:"created"`
	Mode     BackupMode        `json:"mode"`
	Driver   string            `json:"driver,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Files    int64             `json:"files"`              // entries of any type
	Bytes    int64             `json:"bytes"`              // content before compression
	Stored   int64             `json:"stored"`             // bytes in the repository
	Warnings []string          `json:"warnings,omitempty"` // what could not be kept as it was
	Error    string            `json:"error,omitempty"`    // why it cannot be used
}

// VerifyRequest is the body of POST /dhow/v1/backups/verify.
type VerifyRequest struct {
	From string `json:"from"`
	Name string `json:"name"` // a backup's ID, or a volume: all of its backups
}

// BackupCheck is the result of verifying one backup.
type BackupCheck struct {
	Backup Backup `json:"backup"`
	Error  string `json:"error,omitempty"` // "" when it is intact
}

// RestoreRequest is the body of POST /dhow/v1/backups/restore.
type RestoreRequest struct {
	From string     `json:"from"`
	Name string     `json:"name"`           // a backup's ID, or a volume: its latest
	As   string     `json:"as,omitempty"`   // name of a new volume; "": in place
	Mode BackupMode `json:"mode,omitempty"` // for the users of the volume, in place; "": stop
}

// RestoreResult says what a restore or an import wrote.
type RestoreResult struct {
	Volume   string   `json:"volume"`
	Backup   string   `json:"backup,omitempty"`
	Files    int64    `json:"files"`
	Bytes    int64    `json:"bytes"`
	Warnings []string `json:"warnings,omitempty"`
}

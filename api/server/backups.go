package server

import (
	"io"
	"net/http"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/volumes/backup"
)

func (s *server) backupRoutes() {
	s.onBackups("POST /dhow/v1/volumes/{name}/backup", s.backupVolume)
	s.onBackups("GET /dhow/v1/volumes/{name}/export", s.exportVolume)
	s.onBackups("POST /dhow/v1/volumes/{name}/import", s.importVolume)
	s.onBackups("GET /dhow/v1/backups", s.listBackups)
	s.onBackups("POST /dhow/v1/backups/verify", s.verifyBackup)
	s.onBackups("POST /dhow/v1/backups/restore", s.restoreBackup)
}

func (s *server) onBackups(pattern string, h handler) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
		if s.Backups == nil {
			return notYet("backups")
		}
		return h(w, r)
	})
}

func backupMode(m api.BackupMode) (backup.Mode, error) {
	switch m {
	case "", api.BackupLive, api.BackupPause, api.BackupStop:
		return backup.Mode(m), nil
	}
	return "", invalid("mode: %q is none of live, pause and stop", m)
}

func (s *server) backupVolume(w http.ResponseWriter, r *http.Request) error {
	var req api.BackupRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	mode, err := backupMode(req.Mode)
	if err != nil {
		return err
	}
	if req.To == "" {
		return invalid("to: a repository is required")
	}
	info, err := s.Backups.Backup(r.Context(), r.PathValue("name"), req.To, mode)
	if err != nil {
		return err
	}
	return ok(w, toBackup(info))
}

func toBackup(b backup.Info) api.Backup {
	return api.Backup{ID: b.ID, Volume: b.Volume, Created: b.Created, Mode: api.BackupMode(b.Mode), Driver: b.Driver, Options: b.Options,
		Labels: b.Labels, Files: b.Files, Bytes: b.Bytes, Stored: b.Stored, Warnings: b.Warnings, Error: b.Error}
}

func (s *server) listBackups(w http.ResponseWriter, r *http.Request) error {
	from := r.URL.Query().Get("from")
	if from == "" {
		return invalid("from: a repository is required")
	}
	infos, err := s.Backups.List(r.Context(), from, r.URL.Query().Get("volume"))
	if err != nil {
		return err
	}
	out := []api.Backup{}
	for _, b := range infos {
		out = append(out, toBackup(b))
	}
	return ok(w, out)
}

func (s *server) verifyBackup(w http.ResponseWriter, r *http.Request) error {
	var req api.VerifyRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	checks, err := s.Backups.Verify(r.Context(), req.From, req.Name)
	if err != nil {
		return err
	}
	out := []api.BackupCheck{}
	for _, c := range checks {
		out = append(out, api.BackupCheck{Backup: toBackup(c.Info), Error: c.Err})
	}
	return ok(w, out)
}

func (s *server) restoreBackup(w http.ResponseWriter, r *http.Request) error {
	var req api.RestoreRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	mode, err := backupMode(req.Mode)
	if err != nil {
		return err
	}
	res, err := s.Backups.Restore(r.Context(), req.From, req.Name, backup.RestoreOptions{As: req.As, Mode: mode})
	if err != nil {
		return err
	}
	return ok(w, api.RestoreResult(res))
}

// exportVolume streams tar and zstd. What fails before the first byte is a
// plain error; later the connection is cut, which clients see as a short body.
func (s *server) exportVolume(w http.ResponseWriter, r *http.Request) error {
	mode, err := backupMode(api.BackupMode(r.URL.Query().Get("mode")))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/zstd")
	err = s.Backups.Export(r.Context(), r.PathValue("name"), onlyWriter{w}, mode)
	if err != nil {
		w.Header().Del("Content-Type")
	}
	return err
}

func (s *server) importVolume(w http.ResponseWriter, r *http.Request) error {
	mode, err := backupMode(api.BackupMode(r.URL.Query().Get("mode")))
	if err != nil {
		return err
	}
	res, err := s.Backups.Import(r.Context(), r.PathValue("name"), r.Body, mode)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, r.Body) // what follows the archive is nobody's
	return ok(w, api.RestoreResult(res))
}

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup/archive"
)

// Service makes, checks and restores backups. It is safe for concurrent use.
type Service struct {
	cfg     Config
	journal journal
	turns   turns
}

// New returns a Service. Ask it for what was Interrupted before anything else.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, journal: journal{dir: filepath.Join(cfg.DataDir, "backup-journal")}}
}

// Backup stores the content of a volume in a repository. The volume's users
// are quieted as mode says ("" is Pause) and always resumed.
func (s *Service) Backup(ctx context.Context, volume, repo string, mode Mode) (Info, error) {
	info, err := s.backup(ctx, volume, repo, mode)
	if err != nil {
		return Info{}, fmt.Errorf("back up volume %s: %w", volume, err)
	}
	s.cfg.Log.Info("volume backed up", "volume", volume, "backup", info.ID, "repository", repo, "files", info.Files, "bytes", info.Bytes)
	return info, nil
}

func (s *Service) backup(ctx context.Context, volume, repo string, mode Mode) (info Info, err error) {
	if mode, err = mode.or(Pause); err != nil {
		return info, err
	}
	v, err := s.cfg.Volumes.Inspect(ctx, volume)
	if err != nil {
		return info, err
	}
	engine, err := s.open(ctx, repo, true)
	if err != nil {
		return info, err
	}
	meta := Info{Volume: v.Name, Mode: mode, Driver: v.Driver, Options: v.Options, Labels: v.Labels}
	err = s.withTree(ctx, volume, mode, func(dir string) error {
		info, err = engine.Put(ctx, meta, dir)
		return err
	})
	return info, err
}

// withTree runs do on a volume's content while its users are quiet.
func (s *Service) withTree(ctx context.Context, volume string, mode Mode, do func(dir string) error) (err error) {
	dir, release, err := s.cfg.Volumes.Hold(ctx, volume)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	resume, err := s.quiet(ctx, volume, mode)
	defer func() { err = errors.Join(err, resume()) }()
	if err != nil {
		return err
	}
	return do(dir)
}

// List returns the backups in a repository, of one volume or of all ("").
func (s *Service) List(ctx context.Context, repo, volume string) ([]Info, error) {
	engine, err := s.open(ctx, repo, false)
	if err != nil {
		return nil, err
	}
	list, err := engine.List(ctx, volume)
	if err != nil {
		return nil, fmt.Errorf("list backups in %s: %w", repo, err)
	}
	return list, nil
}

// Verify reads the backups that ref means and compares every checksum: all of
// a volume ("NAME"), one ("NAME@ID"), or all of the repository (""). The error
// is about the repository; what is wrong with a backup is in its Check.
func (s *Service) Verify(ctx context.Context, repo, ref string) ([]Check, error) {
	engine, err := s.open(ctx, repo, false)
	if err != nil {
		return nil, err
	}
	list, err := find(ctx, engine, ref)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	checks := make([]Check, 0, len(list))
	for _, b := range list {
		c := Check{Info: b}
		if err := engine.Verify(ctx, b); err != nil {
			c.Err = err.Error()
		}
		if err := ctx.Err(); err != nil {
			return checks, err
		}
		checks = append(checks, c)
	}
	return checks, nil
}

// find returns the backups that ref means, oldest first; none is an error.
func find(ctx context.Context, engine Engine, ref string) ([]Info, error) {
	name, id, _ := strings.Cut(ref, "@")
	all, err := engine.List(ctx, name)
	if err != nil {
		return nil, err
	}
	list := all[:0]
	for _, b := range all {
		if id == "" || b.ID == id {
			list = append(list, b)
		}
	}
	if len(list) == 0 && ref != "" {
		return nil, fmt.Errorf("backup of %s: %w", ref, runtime.ErrNotFound)
	}
	return list, nil
}

func (s *Service) open(ctx context.Context, repo string, create bool) (Engine, error) {
	scheme, _, ok := strings.Cut(repo, "://")
	if !ok {
		scheme = "file"
	}
	open := s.cfg.Engines[scheme]
	if open == nil {
		return nil, fmt.Errorf("repository %s: no engine for %s:// (a path or file:// is known): %w", repo, scheme, runtime.ErrInvalid)
	}
	return open(ctx, repo, create)
}

func (m Mode) or(def Mode) (Mode, error) {
	switch m {
	case "":
		return def, nil
	case Live, Pause, Stop:
		return m, nil
	}
	return m, fmt.Errorf("mode %q is none of live, pause, stop: %w", m, runtime.ErrInvalid)
}

// Restore brings a backup back: the newest of "NAME", or "NAME@ID". In place,
// the new tree is made and verified beside the old one while the users go on;
// they are quieted for the exchange only. A missing volume is made as it was;
// As makes a new, plain one.
func (s *Service) Restore(ctx context.Context, repo, ref string, opt RestoreOptions) (Result, error) {
	res, err := s.restore(ctx, repo, ref, opt)
	if err != nil {
		return Result{}, fmt.Errorf("restore %s: %w", ref, err)
	}
	s.cfg.Log.Info("volume restored", "volume", res.Volume, "backup", res.Backup, "files", res.Files, "bytes", res.Bytes)
	return res, nil
}

func (s *Service) restore(ctx context.Context, repo, ref string, opt RestoreOptions) (res Result, err error) {
	mode, err := opt.Mode.or(Stop)
	if err != nil {
		return res, err
	}
	if ref == "" {
		return res, fmt.Errorf("no backup is named: %w", runtime.ErrInvalid)
	}
	engine, err := s.open(ctx, repo, false)
	if err != nil {
		return res, err
	}
	list, err := find(ctx, engine, ref)
	if err != nil {
		return res, err
	}
	b := list[len(list)-1]
	if b.Error != "" {
		return res, fmt.Errorf("backup %s of %s cannot be used (name an older one as NAME@ID): %s", b.ID, b.Volume, b.Error)
	}
	fill := func(dir string) error {
		if res, err = engine.Get(ctx, b, dir); err != nil {
			return fmt.Errorf("backup %s: %w", b.ID, err)
		}
		return nil
	}
	if opt.As != "" {
		spec := volumes.Spec{Name: opt.As, Labels: copyLabels(b.Labels)}
		err = s.create(ctx, spec, fill)
		res.Volume = opt.As
		return res, err
	}
	spec := volumes.Spec{Name: b.Volume, Driver: b.Driver, Options: b.Options, Labels: b.Labels}
	err = s.into(ctx, spec, mode, fill)
	res.Volume = b.Volume
	return res, err
}

// copyLabels drops the labels that tie a volume to a stack: a copy is not the
// stack's volume.
func copyLabels(labels map[string]string) map[string]string {
	own := map[string]string{}
	for k, v := range labels {
		if !strings.HasPrefix(k, "com.docker.") && !strings.HasPrefix(k, "dhow.") {
			own[k] = v
		}
	}
	return own
}

func (s *Service) create(ctx context.Context, spec volumes.Spec, fill func(string) error) error {
	if err := volumes.CheckName(spec.Name); err != nil {
		return err
	}
	_, err := s.cfg.Volumes.CreateFrom(ctx, spec, fill)
	return err
}

// into exchanges the content of a volume, or makes it when it is missing.
func (s *Service) into(ctx context.Context, spec volumes.Spec, mode Mode, fill func(string) error) error {
	_, err := s.cfg.Volumes.Inspect(ctx, spec.Name)
	if errors.Is(err, runtime.ErrNotFound) {
		return s.create(ctx, spec, fill)
	}
	if err != nil {
		return err
	}
	return s.cfg.Volumes.Replace(ctx, spec.Name, fill, func() (func() error, error) {
		return s.quiet(ctx, spec.Name, mode)
	})
}

// Export writes a volume's content as a tar.zst stream.
func (s *Service) Export(ctx context.Context, volume string, w io.Writer, mode Mode) error {
	mode, err := mode.or(Pause)
	if err == nil {
		err = s.withTree(ctx, volume, mode, func(dir string) error {
			_, err := archive.Write(ctx, w, dir, nil)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("export volume %s: %w", volume, err)
	}
	return nil
}

// Import replaces the content of a volume, made when it is missing, by that of
// a tar archive (plain, gzip or zstd). Users are quieted for the exchange ("" is Stop).
func (s *Service) Import(ctx context.Context, volume string, r io.Reader, mode Mode) (Result, error) {
	var sum archive.Summary
	mode, err := mode.or(Stop)
	if err == nil {
		err = s.into(ctx, volumes.Spec{Name: volume}, mode, func(dir string) (err error) {
			sum, err = archive.Import(ctx, r, dir)
			return err
		})
	}
	if err != nil {
		return Result{}, fmt.Errorf("import into volume %s: %w", volume, err)
	}
	return Result{Volume: volume, Files: sum.Files, Bytes: sum.Bytes, Warnings: sum.Warnings}, nil
}

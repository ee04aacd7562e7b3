package image

import (
	"context"
	"errors"
	"io"

	"github.com/dhow-project/dhow/runtime"
)

var errStub = errors.New("image: not built yet")

func (s *Store) Pull(ctx context.Context, ref string, opt runtime.PullOptions) (*runtime.Image, error) {
	return nil, errStub
}
func (s *Store) Load(ctx context.Context, r io.Reader, progress func(runtime.Progress)) ([]string, error) {
	return nil, errStub
}
func (s *Store) Save(ctx context.Context, refs []string, w io.Writer) error { return errStub }
func (s *Store) Tag(ctx context.Context, ref, newRef string) error          { return errStub }
func (s *Store) Remove(ctx context.Context, ref string, force, prune bool) (runtime.PruneReport, error) {
	return runtime.PruneReport{}, errStub
}
func (s *Store) List(ctx context.Context) ([]runtime.Image, error) { return nil, errStub }
func (s *Store) Image(ctx context.Context, ref, platform string) (*runtime.Image, error) {
	return nil, errStub
}
func (s *Store) Prune(ctx context.Context, all bool, labels map[string]string) (runtime.PruneReport, error) {
	return runtime.PruneReport{}, errStub
}
func (s *Store) DiskUsage(ctx context.Context) (*DiskUsage, error)            { return nil, errStub }
func (s *Store) Usage(ctx context.Context, containerID string) (int64, error) { return 0, errStub }
func (s *Store) MountRootfs(ctx context.Context, containerID, imageID, target string) error {
	return errStub
}
func (s *Store) UnmountRootfs(ctx context.Context, containerID, target string) error { return errStub }
func (s *Store) RemoveRootfs(ctx context.Context, containerID, target string) error  { return errStub }
func (s *Store) MountImage(ctx context.Context, key, imageID, target string) error   { return errStub }
func (s *Store) UnmountImage(ctx context.Context, key, target string) error          { return errStub }
func (s *Store) sweep() error                                                        { return nil }
func overlayOptions(string) []string                                                 { return nil }

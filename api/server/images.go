package server

import (
	"net/http"
	"sort"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

func (s *server) imageRoutes() {
	s.handle("GET /images/json", s.listImages)
	s.handle("POST /images/create", s.pullImage)
	s.handle("POST /images/load", s.loadImages)
	s.handle("POST /images/prune", s.pruneImages)
	s.handle("GET /images/get", s.saveImages)
	s.handle("GET /images/search", func(http.ResponseWriter, *http.Request) error {
		return notYet("searching registries is not offered: name the image to pull it")
	})
	// Names have slashes, so what is asked of an image is found from the end.
	s.handle("GET /images/{rest...}", s.getImage)
	s.handle("POST /images/{rest...}", s.postImage)
	s.handle("DELETE /images/{rest...}", s.removeImage)
}

func (s *server) getImage(w http.ResponseWriter, r *http.Request) error {
	rest := r.PathValue("rest")
	if name, found := strings.CutSuffix(rest, "/json"); found {
		return s.inspectImage(w, r, name)
	}
	if name, found := strings.CutSuffix(rest, "/history"); found {
		return s.imageHistory(w, r, name)
	}
	if name, found := strings.CutSuffix(rest, "/get"); found {
		return s.save(w, r, []string{name})
	}
	return notFound("page not found: %s", r.URL.Path)
}

func (s *server) postImage(w http.ResponseWriter, r *http.Request) error {
	rest := r.PathValue("rest")
	if name, found := strings.CutSuffix(rest, "/tag"); found {
		return s.tagImage(w, r, name)
	}
	if name, found := strings.CutSuffix(rest, "/push"); found {
		return notYet("pushing %s: images are not pushed to registries yet", name)
	}
	return notFound("page not found: %s", r.URL.Path)
}

func noSuchImage(ref string, err error) error {
	if statusOf(err) == http.StatusNotFound {
		return notFound("No such image: %s", withTag(ref))
	}
	return err
}

// withTag is ref as people see it: with the tag that it stands for.
func withTag(ref string) string {
	if strings.Contains(ref, "@") || strings.HasPrefix(ref, "sha256:") {
		return ref
	}
	if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
		return ref
	}
	return ref + ":latest"
}

func (s *server) listImages(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "label", "before", "since", "reference", "until")
	if err != nil {
		return err
	}
	out, err := s.imageSummaries(r, f)
	if err != nil {
		return err
	}
	return ok(w, out)
}

func (s *server) imageSummaries(r *http.Request, f filters) ([]image.Summary, error) {
	keep, err := s.imageFilter(r, f)
	if err != nil {
		return nil, err
	}
	all, err := s.Images.List(r.Context())
	if err != nil {
		return nil, err
	}
	used, err := s.containersByImage(r)
	if err != nil {
		return nil, err
	}
	out := []image.Summary{}
	for i := range all {
		img := &all[i]
		if !keep(img) {
			continue
		}
		sum := toImageSummary(img)
		sum.Containers = int64(used[img.ID])
		out = append(out, sum)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Created > out[j].Created })
	return out, nil
}

func (s *server) containersByImage(r *http.Request) (map[string]int, error) {
	all, err := s.Engine.List(r.Context(), runtime.Filter{All: true})
	if err != nil {
		return nil, err
	}
	used := map[string]int{}
	for i := range all {
		used[all[i].ImageID]++
	}
	return used, nil
}

func toImageSummary(img *runtime.Image) image.Summary {
	return image.Summary{ID: img.ID, Created: unixOrZero(img.Created), RepoTags: list(img.Tags), RepoDigests: list(img.Digests),
		Labels: mergeLabels(img.Config.Labels, nil), Size: img.Size, SharedSize: -1}
}

// unixOrZero is 0 for an image without a date, where Unix would be far below.
func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (s *server) imageFilter(r *http.Request, f filters) (func(*runtime.Image) bool, error) {
	dangling, isDangling, err := f.truthOf("dangling")
	if err != nil {
		return nil, err
	}
	until, err := f.until(time.Now())
	if err != nil {
		return nil, err
	}
	bound := func(key string) (t time.Time, err error) {
		for _, ref := range f[key] {
			img, err := s.Images.Image(r.Context(), ref, "")
			if err != nil {
				return t, noSuchImage(ref, err)
			}
			t = img.Created
		}
		return t, nil
	}
	before, err := bound("before")
	if err != nil {
		return nil, err
	}
	since, err := bound("since")
	if err != nil {
		return nil, err
	}
	return func(img *runtime.Image) bool {
		if isDangling && dangling != (len(img.Tags) == 0) {
			return false
		}
		if !before.IsZero() && !img.Created.Before(before) || !since.IsZero() && !img.Created.After(since) ||
			!until.IsZero() && img.Created.After(until) {
			return false
		}
		return f.labels(img.Config.Labels) && f.any("reference", func(want string) bool { return matchesReference(img, want) })
	}, nil
}

func (s *server) inspectImage(w http.ResponseWriter, r *http.Request, name string) error {
	img, err := s.Images.Image(r.Context(), name, "")
	if err != nil {
		return noSuchImage(name, err)
	}
	return ok(w, toImageInspect(img))
}

// imageInspect adds fields that clients up to API 1.51 read.
type imageInspect struct {
	image.InspectResponse
	Parent        string
	DockerVersion string
	VirtualSize   int64 `json:",omitempty"`
	Comment       string
	Author        string
	Config        imageConfig
}

// imageConfig is the image's config with Docker's null-free shape.
type imageConfig struct {
	dockerspec.DockerOCIImageConfig
	Hostname, Domainname                    string
	AttachStdin, AttachStdout, AttachStderr bool
	Tty, OpenStdin, StdinOnce               bool
	Image                                   string
	User                                    string
	Env                                     []string
	Cmd                                     []string
	Volumes                                 map[string]struct{}
	WorkingDir                              string
	Entrypoint                              []string
	OnBuild                                 []string
	Labels                                  map[string]string
}

func toImageInspect(img *runtime.Image) *imageInspect {
	c := img.Config
	out := &imageInspect{Comment: img.Comment, Author: img.Author, VirtualSize: img.Size}
	out.InspectResponse = image.InspectResponse{
		ID: img.ID, RepoTags: list(img.Tags), RepoDigests: list(img.Digests), Created: stamp(img.Created),
		Architecture: img.Architecture, Variant: img.Variant, Os: img.OS, Size: img.Size,
		RootFS:      image.RootFS{Type: "layers", Layers: img.Layers},
		Metadata:    image.Metadata{LastTagTime: img.LastTagged},
		GraphDriver: &storage.DriverData{Name: "overlayfs", Data: map[string]string{}},
	}
	out.Config = imageConfig{User: c.User, Env: list(c.Env), Cmd: c.Cmd, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint, OnBuild: c.OnBuild, Labels: c.Labels}
	for _, v := range c.Volumes {
		out.Config.Volumes = addTo(out.Config.Volumes, v)
	}
	out.Config.DockerOCIImageConfig = dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{StopSignal: c.StopSignal, ExposedPorts: setOf(c.ExposedPorts)},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{
			Healthcheck: fromHealthcheck(nil, c.Healthcheck), Shell: c.Shell,
		},
	}
	return out
}

func setOf(in []string) (out map[string]struct{}) {
	for _, s := range in {
		out = addTo(out, s)
	}
	return out
}

func (s *server) imageHistory(w http.ResponseWriter, r *http.Request, name string) error {
	img, err := s.Images.Image(r.Context(), name, "")
	if err != nil {
		return noSuchImage(name, err)
	}
	out := []image.HistoryResponseItem{}
	for i := len(img.History) - 1; i >= 0; i-- {
		h := img.History[i]
		item := image.HistoryResponseItem{ID: "<missing>", Created: unixOrZero(h.Created), CreatedBy: h.CreatedBy, Comment: h.Comment, Size: h.Size}
		if len(out) == 0 {
			item.ID, item.Tags = img.ID, img.Tags
		}
		out = append(out, item)
	}
	return ok(w, out)
}

func (s *server) tagImage(w http.ResponseWriter, r *http.Request, name string) error {
	repo, tag := r.URL.Query().Get("repo"), r.URL.Query().Get("tag")
	if repo == "" {
		return invalid("missing parameter: repo")
	}
	if tag != "" {
		repo += ":" + tag
	}
	if err := s.Images.Tag(r.Context(), name, repo); err != nil {
		return noSuchImage(name, err)
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *server) removeImage(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("rest")
	if name == "" {
		return invalid("image name cannot be blank")
	}
	report, err := s.Images.Remove(r.Context(), name, flag(r, "force"), !flag(r, "noprune"))
	if err != nil {
		return noSuchImage(name, err)
	}
	return ok(w, deleteResponses(report))
}

func deleteResponses(report runtime.PruneReport) []image.DeleteResponse {
	out := []image.DeleteResponse{}
	for _, u := range report.Untagged {
		out = append(out, image.DeleteResponse{Untagged: u})
	}
	for _, d := range report.Deleted {
		out = append(out, image.DeleteResponse{Deleted: d})
	}
	return out
}

func (s *server) pruneImages(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "label")
	if err != nil {
		return err
	}
	dangling, given, err := f.truthOf("dangling")
	if err != nil {
		return err
	}
	report, err := s.Images.Prune(r.Context(), given && !dangling, labelMap(f["label"]))
	if err != nil {
		return err
	}
	return ok(w, image.PruneReport{ImagesDeleted: deleteResponses(report), SpaceReclaimed: uint64(max(report.Reclaimed, 0))})
}

// labelMap is a label filter as the node's parts take it: an empty value asks for the key.
func labelMap(labels []string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		out[key] = value
	}
	return out
}

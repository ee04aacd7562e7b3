package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/volume"

	"github.com/dhow-project/dhow/api"
)

// Volumes lists volumes by name.
func (c *Client) Volumes(ctx context.Context, f Filters) ([]volume.Volume, error) {
	q := url.Values{}
	f.add(q)
	var out volume.ListResponse
	err := c.get(ctx, docker+"/volumes", q, &out)
	return out.Volumes, err
}

// VolumesOf lists the volumes of one node, by its ID or hostname.
func (c *Client) VolumesOf(ctx context.Context, node string, f Filters) ([]volume.Volume, error) {
	q := url.Values{}
	f.add(q)
	var out volume.ListResponse
	err := c.call(ctx, request{method: http.MethodGet, path: docker + "/volumes", query: q, header: http.Header{api.NodeHeader: {node}}}, &out)
	return out.Volumes, err
}

// Volume describes one volume.
func (c *Client) Volume(ctx context.Context, name string) (volume.Volume, error) {
	var out volume.Volume
	err := c.get(ctx, docker+"/volumes/"+name, nil, &out)
	return out, err
}

// CreateVolume makes a volume; one that exists with the same definition is returned.
func (c *Client) CreateVolume(ctx context.Context, req volume.CreateRequest) (volume.Volume, error) {
	var out volume.Volume
	err := c.post(ctx, docker+"/volumes/create", nil, req, &out)
	return out, err
}

// RemoveVolume removes a volume that nobody uses; with force one that is not there is no error.
func (c *Client) RemoveVolume(ctx context.Context, name string, force bool) error {
	q := url.Values{}
	set(q, "force", force)
	return c.delete(ctx, docker+"/volumes/"+name, q)
}

// RemoveVolumeEverywhere removes the volume of a name on every node that has one.
func (c *Client) RemoveVolumeEverywhere(ctx context.Context, name string) error {
	q := url.Values{}
	set(q, "everywhere", true)
	return c.delete(ctx, docker+"/volumes/"+name, q)
}

// PruneVolumes removes unused anonymous volumes, with all also named ones.
func (c *Client) PruneVolumes(ctx context.Context, all bool, f Filters) (volume.PruneReport, error) {
	filters := Filters{}
	for key, values := range f {
		filters[key] = values
	}
	if all {
		filters["all"] = []string{"true"}
	}
	q := url.Values{}
	filters.add(q)
	var out volume.PruneReport
	err := c.post(ctx, docker+"/volumes/prune", q, nil, &out)
	return out, err
}

// BackupVolume stores a volume's content in a repository.
func (c *Client) BackupVolume(ctx context.Context, name string, req api.BackupRequest) (api.Backup, error) {
	var out api.Backup
	err := c.post(ctx, "/dhow/v1/volumes/"+name+"/backup", nil, req, &out)
	return out, err
}

// Backups lists the backups in a repository, of one volume or of all.
func (c *Client) Backups(ctx context.Context, from, volume string) ([]api.Backup, error) {
	q := url.Values{"from": {from}}
	setText(q, "volume", volume)
	var out []api.Backup
	err := c.get(ctx, "/dhow/v1/backups", q, &out)
	return out, err
}

// VerifyBackup reads backups and compares every checksum.
func (c *Client) VerifyBackup(ctx context.Context, req api.VerifyRequest) ([]api.BackupCheck, error) {
	var out []api.BackupCheck
	err := c.post(ctx, "/dhow/v1/backups/verify", nil, req, &out)
	return out, err
}

// RestoreBackup brings a backup back.
func (c *Client) RestoreBackup(ctx context.Context, req api.RestoreRequest) (api.RestoreResult, error) {
	var out api.RestoreResult
	err := c.post(ctx, "/dhow/v1/backups/restore", nil, req, &out)
	return out, err
}

// ExportVolume writes a volume's content as tar and zstd.
func (c *Client) ExportVolume(ctx context.Context, name string, mode api.BackupMode, w io.Writer) error {
	q := url.Values{}
	setText(q, "mode", string(mode))
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "/dhow/v1/volumes/" + name + "/export", query: q})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("export volume %s: %w", name, plain(ctx, err))
	}
	return nil
}

// ImportVolume replaces a volume's content by an exported one.
func (c *Client) ImportVolume(ctx context.Context, name string, mode api.BackupMode, r io.Reader) (api.RestoreResult, error) {
	q := url.Values{}
	setText(q, "mode", string(mode))
	var out api.RestoreResult
	err := c.post(ctx, "/dhow/v1/volumes/"+name+"/import", q, r, &out)
	return out, err
}

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"github.com/dhow-project/dhow/runtime"
)

func imagePath(ref, rest string) string { return docker + "/images/" + ref + rest }

// Images lists images, the newest first.
func (c *Client) Images(ctx context.Context, f Filters) ([]image.Summary, error) {
	q := url.Values{}
	f.add(q)
	var out []image.Summary
	err := c.get(ctx, docker+"/images/json", q, &out)
	return out, err
}

// Image describes one image.
func (c *Client) Image(ctx context.Context, ref string) (image.InspectResponse, error) {
	var out image.InspectResponse
	err := c.get(ctx, imagePath(ref, "/json"), nil, &out)
	return out, err
}

// ImageJSON is Image with every field that the daemon sent.
func (c *Client) ImageJSON(ctx context.Context, ref string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.get(ctx, imagePath(ref, "/json"), nil, &out)
	return out, err
}

// PullImage pulls ref ("redis" is "redis:latest"); each hears about the progress.
func (c *Client) PullImage(ctx context.Context, ref, platform string, auth *runtime.RegistryAuth, each func(jsonstream.Message)) error {
	q := url.Values{"fromImage": {ref}}
	if i := strings.LastIndex(ref, ":"); i <= strings.LastIndex(ref, "/") && !strings.Contains(ref, "@") {
		q.Set("tag", "latest")
	}
	setText(q, "platform", platform)
	header := http.Header{}
	if auth != nil {
		text, err := authconfig.Encode(registry.AuthConfig{Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken})
		if err != nil {
			return fmt.Errorf("pull %s: credentials: %w", ref, err)
		}
		header.Set(registry.AuthHeader, text)
	}
	return c.transfer(ctx, request{method: http.MethodPost, path: docker + "/images/create", query: q, header: header}, each)
}

// LoadImages loads an archive; each hears about the progress and the names.
func (c *Client) LoadImages(ctx context.Context, archive io.Reader, each func(jsonstream.Message)) error {
	header := http.Header{"Content-Type": {"application/x-tar"}}
	return c.transfer(ctx, request{method: http.MethodPost, path: docker + "/images/load", body: archive, header: header}, each)
}

// transfer reads a stream of messages; one with an error is the end.
func (c *Client) transfer(ctx context.Context, r request, each func(jsonstream.Message)) error {
	return lines(ctx, c, r, func(m jsonstream.Message) error {
		if m.Error != nil {
			return errors.New(m.Error.Message)
		}
		if each != nil {
			each(m)
		}
		return nil
	})
}

// SaveImages returns an archive of images.
func (c *Client) SaveImages(ctx context.Context, refs []string) (io.ReadCloser, error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: docker + "/images/get", query: url.Values{"names": refs}})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// TagImage gives ref another name, with or without a tag.
func (c *Client) TagImage(ctx context.Context, ref, name string) error {
	return c.post(ctx, imagePath(ref, "/tag"), url.Values{"repo": {name}}, nil, nil)
}

// RemoveImage removes a name, and the image with its last name.
func (c *Client) RemoveImage(ctx context.Context, ref string, force, noPrune bool) ([]image.DeleteResponse, error) {
	q := url.Values{}
	set(q, "force", force)
	set(q, "noprune", noPrune)
	var out []image.DeleteResponse
	err := c.call(ctx, request{method: http.MethodDelete, path: imagePath(ref, ""), query: q}, &out)
	return out, err
}

// ImageHistory lists the steps of an image's making, the newest first.
func (c *Client) ImageHistory(ctx context.Context, ref string) ([]image.HistoryResponseItem, error) {
	var out []image.HistoryResponseItem
	err := c.get(ctx, imagePath(ref, "/history"), nil, &out)
	return out, err
}

// PruneImages removes images without a name, and with all also those that no container uses.
func (c *Client) PruneImages(ctx context.Context, all bool, f Filters) (image.PruneReport, error) {
	filters := Filters{}
	for key, values := range f {
		filters[key] = values
	}
	filters["dangling"] = []string{"true"}
	if all {
		filters["dangling"] = []string{"false"}
	}
	q := url.Values{}
	filters.add(q)
	var out image.PruneReport
	err := c.post(ctx, docker+"/images/prune", q, nil, &out)
	return out, err
}

package main

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/table"
)

// imageRow is a line of `dhow images`, with docker compose's field names.
type imageRow struct {
	ID            string
	ContainerName string
	Repository    string
	Tag           string
	Platform      string
	Size          int64
}

func imagesCmd(a *app) *cobra.Command {
	var o table.Options
	var all bool
	c := &cobra.Command{
		Use: "images [SERVICE...]", Short: "List the images of the stack's containers, or with --all of this machine",
		Example: "  dhow images\n  dhow images --all --format json", ValidArgsFunction: a.completeServices,
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := a.imageRows(cmd.Context(), args, all)
			if err != nil {
				return err
			}
			cols := []table.Column[imageRow]{
				{Head: "REPOSITORY", Value: func(r imageRow) string { return r.Repository }, Min: 16},
				{Head: "TAG", Value: func(r imageRow) string { return r.Tag }},
				{Head: "IMAGE ID", Value: func(r imageRow) string { return r.ID }},
				{Head: "SIZE", Value: func(r imageRow) string { return units.HumanSize(float64(r.Size)) }},
			}
			if !all {
				cols = append([]table.Column[imageRow]{{Head: "CONTAINER", Value: func(r imageRow) string { return r.ContainerName }}}, cols...)
			}
			if o.Quiet {
				cols[0] = table.Column[imageRow]{Value: func(r imageRow) string { return r.ID }}
			}
			return table.Print(a.out, a.fit(o), rows, cols)
		},
	}
	listFlags(c, &o)
	c.Flags().BoolVarP(&all, "all", "a", false, "all images of this machine")
	return c
}

func (a *app) imageRows(ctx context.Context, args []string, all bool) ([]imageRow, error) {
	var c *client.Client
	var err error
	if all {
		if c, err = a.daemonClient(ctx); err != nil {
			return nil, err
		}
		list, err := c.Images(ctx, nil)
		if err != nil {
			return nil, err
		}
		var rows []imageRow
		for _, img := range list {
			tags := img.RepoTags
			if len(tags) == 0 {
				tags = []string{"<none>:<none>"}
			}
			for _, t := range tags {
				repo, tag := splitTag(t)
				rows = append(rows, imageRow{ID: shortID(img.ID), Repository: repo, Tag: tag, Size: img.Size})
			}
		}
		slices.SortFunc(rows, func(a, b imageRow) int {
			return cmp.Or(strings.Compare(a.Repository, b.Repository), strings.Compare(a.Tag, b.Tag))
		})
		return rows, nil
	}
	c, list, err := a.targets(ctx, args, true)
	if err != nil {
		return nil, err
	}
	var rows []imageRow
	for _, ct := range list {
		img, err := c.Image(ctx, ct.ImageID)
		if err != nil && !client.IsNotFound(err) {
			return nil, err
		}
		repo, tag := splitTag(ct.Image)
		rows = append(rows, imageRow{
			ID: shortID(ct.ImageID), ContainerName: containerName(ct), Repository: repo, Tag: tag,
			Platform: strings.Trim(img.Os+"/"+img.Architecture, "/"), Size: img.Size,
		})
	}
	return rows, nil
}

func splitTag(ref string) (repo, tag string) {
	if repo, digest, ok := strings.Cut(ref, "@"); ok {
		return repo, digest
	}
	i := strings.LastIndexByte(ref, ':')
	if i < 0 || strings.Contains(ref[i:], "/") {
		return ref, "latest"
	}
	return ref[:i], ref[i+1:]
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

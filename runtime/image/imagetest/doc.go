// Package imagetest makes small container images in memory, for tests.
//
//	img := imagetest.Busybox(t, "busybox:latest")
//	names, err := store.Load(ctx, bytes.NewReader(imagetest.Archive(t, img)), nil)
//
// What it makes is deterministic: the same Image has the same digests.
package imagetest

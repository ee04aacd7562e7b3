package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// source decides where one pull takes its image from.
type source struct {
	name     reference.Named
	opt      runtime.PullOptions
	registry *registry
	peers    *peerSource // nil: there are none
	progress *progress
}

// resolve finds out what to fetch and from where. Bytes that are pinned come
// from other nodes where they can; the meaning of a name is the registry's
// matter, and other nodes' when the registry does not tell.
func (s *source) resolve(ctx context.Context) (ocispec.Descriptor, remotes.Fetcher, error) {
	refs := s.pinned()
	if len(refs) == 0 && (s.opt.Anywhere || s.opt.NoRegistry) {
		refs = []string{tagOf(s.name)}
	}
	var nodes error // why none gives it
	if s.peers != nil && len(refs) > 0 {
		d, err := s.peers.resolve(ctx, refs...)
		if err == nil {
			if !s.opt.NoRegistry {
				s.peers.registry, err = s.resolver().Fetcher(ctx, s.name.Name()+"@"+d.Digest.String())
			}
			return d, s.peers, err
		}
		nodes = err
	}
	if s.opt.NoRegistry || ctx.Err() != nil {
		return ocispec.Descriptor{}, nil, s.nowhere(nodes)
	}
	d, fetcher, err := s.fromRegistry(ctx)
	if err == nil {
		s.progress.say(tagOf(s.name), "Pulling from "+reference.Path(s.name))
		if s.peers == nil {
			return d, fetcher, nil
		}
		s.peers.registry = fetcher
		s.peers.learn(d.Digest.String())
		return d, s.peers, nil
	}
	if s.peers != nil && nodes == nil && !errors.Is(err, runtime.ErrInvalid) && ctx.Err() == nil {
		d, perr := s.peers.resolve(ctx, tagOf(s.name))
		if perr == nil {
			return d, s.peers, nil
		}
		nodes = perr
	}
	if nodes != nil {
		err = fmt.Errorf("%w; %w", err, nodes)
	}
	return ocispec.Descriptor{}, nil, err
}

// pinned are the digests that the image has to have, the widest first.
func (s *source) pinned() (refs []string) {
	if d, ok := s.name.(reference.Digested); ok {
		refs = append(refs, d.Digest().String())
	}
	for _, d := range []string{s.opt.Digest, s.opt.ImageID} {
		if d != "" {
			refs = append(refs, d)
		}
	}
	return refs
}

func (s *source) nowhere(nodes error) error {
	if nodes == nil {
		nodes = &nobodyError{kind: runtime.ErrNotFound}
	}
	return fmt.Errorf("it is not on this node, and %w; load it with `dhow load -i FILE`, or allow the registry by its pull_policy", nodes)
}

func (s *source) resolver() remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{Hosts: s.registry.hosts, Headers: userAgent()})
}

// fromRegistry asks the registry what the name means.
func (s *source) fromRegistry(ctx context.Context) (ocispec.Descriptor, remotes.Fetcher, error) {
	ref := s.name.String()
	if s.opt.Digest != "" {
		ref = s.name.Name() + "@" + s.opt.Digest
	}
	resolver := s.resolver()
	full, target, err := resolver.Resolve(ctx, ref)
	if err != nil {
		return target, nil, s.registry.explain(err)
	}
	if target.MediaType == images.MediaTypeDockerSchema1Manifest {
		return target, nil, fmt.Errorf("the registry has it only in the retired schema 1 format; build or push it again with a current tool: %w", runtime.ErrInvalid)
	}
	fetcher, err := resolver.Fetcher(ctx, full)
	if err != nil {
		return target, nil, s.registry.explain(err)
	}
	return target, fetcher, nil
}

// report says what came of the pull, in Docker's words.
func (s *source) report(before, after *found, target ocispec.Descriptor) {
	s.progress.say("", "Digest: "+target.Digest.String())
	name := reference.FamiliarString(s.name)
	switch {
	case before != nil && before.image.id() == after.image.id():
		s.progress.say("", "Status: Image is up to date for "+name)
	case s.peers != nil && len(s.peers.sources()) > 0:
		s.progress.say("", "Status: Downloaded newer image for "+name+" from "+s.from())
	default:
		s.progress.say("", "Status: Downloaded newer image for "+name)
	}
}

// from names the nodes that sent the image, or the registry.
func (s *source) from() string {
	if s.peers != nil {
		if nodes := s.peers.sources(); len(nodes) == 1 {
			return "node " + nodes[0]
		} else if len(nodes) > 1 {
			return "nodes " + strings.Join(nodes, ", ")
		}
	}
	return reference.Domain(s.name)
}

// Resolve finds out which index or manifest a reference means: to other nodes,
// when opt says Anywhere or NoRegistry, or else to the registry. Nothing is
// fetched; the image's ID is known only when a node has said it.
func (s *Store) Resolve(ctx context.Context, ref string, opt runtime.PullOptions) (stack.Pin, error) {
	name, err := parseName(ref)
	if err != nil {
		return stack.Pin{}, err
	}
	reg := s.registry(name, opt.Auth)
	defer reg.close()
	p := newProgress(nil, "")
	src := &source{name: name, opt: opt, registry: reg, peers: s.peerSource(name, p), progress: p}
	d, _, err := src.resolve(s.context(ctx))
	if err != nil {
		return stack.Pin{}, fmt.Errorf("resolve %s: %w", reference.FamiliarString(name), err)
	}
	return stack.Pin{Digest: d.Digest.String()}, nil
}

package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// triesPerBlob bounds how often one blob is taken up again with another node.
const triesPerBlob = 10

// peerBlob reads a blob. When a node breaks off, another goes on where it stopped.
type peerBlob struct {
	source *peerSource
	ctx    context.Context // of the Fetch that made it, like every reader of a fetcher
	desc   ocispec.Descriptor

	offset int64
	rc     io.ReadCloser // nil: to be opened
	node   string        // that rc reads from; "": the registry
	tries  int
}

func (b *peerBlob) Read(p []byte) (int, error) {
	for {
		if b.offset >= b.desc.Size && b.desc.Size > 0 {
			return 0, io.EOF
		}
		if b.rc == nil {
			if err := b.open(); err != nil {
				return 0, err
			}
		}
		n, err := b.rc.Read(p)
		b.offset += int64(n)
		switch {
		case err == nil, err == io.EOF && b.offset >= b.desc.Size:
			return n, err
		case b.node == "":
			return n, err // the caller knows how to go on with a registry
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if gone := b.brokeOff(err); gone != nil || n > 0 {
			return n, gone
		}
	}
}

// open connects to a node or, when none gives the blob, to the registry.
func (b *peerBlob) open() error {
	p := b.source
	rc, node, err := p.open(b.ctx, b.desc, b.offset, b.node)
	if err == nil {
		b.rc, b.node = rc, node
		return nil
	}
	if p.registry == nil || b.ctx.Err() != nil {
		return err
	}
	if rc, err = p.registry.Fetch(b.ctx, b.desc); err != nil {
		return err
	}
	if b.offset > 0 {
		if s, ok := rc.(io.Seeker); ok {
			_, err = s.Seek(b.offset, io.SeekStart)
		} else {
			_, err = io.CopyN(io.Discard, rc, b.offset)
		}
	}
	if err != nil {
		return errors.Join(err, rc.Close())
	}
	b.rc, b.node = rc, ""
	return nil
}

// brokeOff leaves a node that stopped in the middle; an error ends the blob.
func (b *peerBlob) brokeOff(err error) error {
	if cerr := b.Close(); cerr != nil {
		err = errors.Join(err, cerr)
	}
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	b.tries++
	if b.tries >= triesPerBlob {
		return fmt.Errorf("node %s broke off: %w", b.source.peers.Name(b.node), err)
	}
	b.source.store.log.Info("node broke off", "peer", b.node, "digest", b.desc.Digest, "offset", b.offset, "err", err)
	return nil
}

// Seek is how an interrupted download goes on.
func (b *peerBlob) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.offset
	case io.SeekEnd:
		offset += b.desc.Size
	}
	if offset < 0 || offset > b.desc.Size {
		return 0, fmt.Errorf("seek to %d of %d bytes", offset, b.desc.Size)
	}
	if offset != b.offset {
		if err := b.Close(); err != nil {
			return 0, err
		}
		b.offset = offset
	}
	return offset, nil
}

// Close may be called more than once.
func (b *peerBlob) Close() error {
	if b.rc == nil {
		return nil
	}
	rc := b.rc
	b.rc = nil
	return rc.Close()
}

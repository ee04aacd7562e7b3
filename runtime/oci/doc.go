// Package oci turns a container spec and an image's config into the
// specification that an OCI runtime executes.
//
//	stack.ContainerSpec + runtime.ImageConfig + Facts of the host
//	   + what the engine prepared (rootfs, mounts, namespaces) --Spec--> specs.Spec, warnings
//
// Spec reads two files of the root file system (etc/passwd, etc/group), stats
// the device nodes that are asked for, and does nothing else: what the host
// can do is in Facts, gathered once. What cannot be honoured here is an error
// (runtime.ErrInvalid) when the container would be something else than asked
// for, and a warning when it would be the same with a weaker limit.
//
// Defaults (capabilities, seccomp profile, masked paths, mounts) are those of
// the Docker Engine, so that images behave as their makers tested them.
package oci

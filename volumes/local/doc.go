// Package local is the volume driver "local": directories, and whatever the
// kernel can mount at one: bind mounts, NFS, tmpfs, block devices, and images
// of a fixed size.
//
// Options are Docker's: type, o, device. Without options a volume is a
// directory and costs no mount.
//
//	type=none o=bind device=/srv/data          another directory
//	type=nfs  o=addr=host,rw device=:/export   also nfs4 and "host:/export"
//	type=tmpfs o=size=64m                      gone with the last user
//	type=ext4 device=/dev/sdb1                 any block device
//	type=ext4 device=/srv/disk.img             a file, through a loop device
//	type=ext4 o=size=10G                       an image of that size that the driver makes
//
// The last form is dhow's own: it gives a volume a hard size limit. The image
// is sparse and lies beside the mount point as disk.img.
package local

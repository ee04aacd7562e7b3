// Package dirrepo keeps backups in a directory. docs/backup.md describes the
// layout for people; in short:
//
//	dhow-repo.json                  says that this is a repository, and its format
//	lock                            held while tmp/ is changed
//	tmp/ID/                         a backup being written; locked by its writer
//	volumes/NAME/ID/manifest.json   what it is, with the checksums of the other two
//	volumes/NAME/ID/data.tar.zst    the tree (backup/archive)
//	volumes/NAME/ID/files.jsonl.zst one record per file, with its SHA-256
//
// A backup appears by one rename, after all its bytes are on the disk.
package dirrepo

// Package backup saves volumes into repositories and brings them back.
//
// Service is what the API calls. It quiets the containers that use a volume
// (journalled, so that a crash leaves nobody paused), asks an Engine to store
// or fetch the tree, and lets the volume manager swap restored content in.
// Engines are chosen by the scheme of the repository's URL; backup/dirrepo
// keeps archives in a directory, in the format of backup/archive.
package backup

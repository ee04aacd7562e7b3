// Package logins reads the registry logins that `docker login` keeps: in a
// config.json, or with the helper programs that it names.
package logins

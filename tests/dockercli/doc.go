// Package dockercli runs docker's own command line against a daemon with real
// containers: what people and scripts already type must work. The same
// commands against a fake engine are in api/server, where they also see what
// cannot be provoked here.
package dockercli

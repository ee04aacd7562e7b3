// Package link makes namespaces, veth pairs and bridges through netlink.
//
// It fits overlaynet.Links. Everything it makes is found again by name: links
// begin with the mark, namespaces are files under RunDir/netns; Sweep removes
// what is no longer wanted, also after a crash.
//
// Speed: spare namespaces are kept ready (as open descriptors only, so that a
// crash leaves none behind), each with a netlink socket inside; a veth pair is
// made in its final place, named, addressed and up, by two batches of
// messages, one socket write each. No link is ever looked up by a dump on the
// way.
package link

// Package lb is the node's packet filter: isolation between networks,
// masquerade, published ports and their balancing, in one nftables table.
//
// It fits overlaynet.Rules and overlaynet.Ports. The table (inet, named by the
// mark) holds a fixed skeleton of rules that look things up in sets and maps;
// a change adds and removes elements, and one small chain per published port,
// in one transaction, so that it costs with the change and is seen whole or
// not at all. Concurrent changes share a transaction.
//
//	raw                        127.0.0.0/8 and tunnels are guarded; what tunnels carry is not tracked
//	prerouting (dnat)          forged senders are dropped; (bridge . virtual address) -> chain of the service -> dnat; nobody there: refuse
//	prerouting, output (dnat)  fib daddr type local -> map (address . proto . port) or (proto . port) -> chain of the port -> dnat
//	forward                    same bridge and translated connections pass, what is known first; the rest between bridges is dropped, known or not
//	postrouting (srcnat)       masquerade: 127.0.0.0/8 into bridges, a container to itself, outgoing
//
// Frames inside our bridges pass these chains too (br_netfilter, per bridge),
// or answers to what was translated would not be translated back.
//
// Other firewalls: a packet must pass every base chain of the hook, so where a
// foreign forward chain is closed (ufw, Docker, firewalld), two marked rules
// per bridge are put into it; see neighbours.go.
//
// What the kernel cannot translate is connections to ::1, and IPv6
// connections to containers that have IPv4 only: the reserved socket of each
// published port forwards those itself.
package lb

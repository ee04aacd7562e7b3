// Package identity says who a node is: the cluster's own certificate
// authority, join tokens, and the key and certificate of one node with the TLS
// configurations made of them. It knows no network and no replicated state.
//
//	CA (kept sealed in the replicated state)      Store (DIR of one node)
//	  NewCA, Rotate, Finish                         NewCSR ---- CSR ----+
//	  Sign(csr, Peer) <------------------------------------------------ +
//	     +---- certificate chain + roots ---------> Install
//	                                                ServerTLS, ClientTLS
//
// A certificate names its node (CN and SAN), its cluster (O) and its role (OU);
// the signer sets all of that and reads only the public key from the request.
// The node's key is made on the node and never leaves it.
//
// Rotation never interrupts: Rotate makes a new root, adds it to the bundle, and
// has the old root sign the new root's key as well (a cross-signed
// certificate, handed out behind every new node certificate). A node that knows
// only the old root trusts the new certificates through it; a node that has the
// new bundle trusts both. When every node has a certificate of the new root
// (Issuer) and its bundle, Finish takes the old roots out.
package identity

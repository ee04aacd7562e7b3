// Package seal encrypts what must not stand in clear in the replicated state
// and its snapshots: secrets, the authority's key, registry credentials.
//
// AES-256-GCM with random nonces. A sealed value is bound to the name of its
// record, so that one cannot be put in the place of another:
//
//	"dhs1" | key ID (8 bytes) | nonce (12 bytes) | ciphertext and tag
//
// A Ring holds the keys of one manager, in DIR/seal.json, 0600. Every manager
// has the same keys: Export on one, Import on the other, over mTLS only. New
// values are sealed with the primary key; the older ones stay for reading until
// Retire. The file can be wrapped in an encryption of its own (Wrapper), by
// which a manager starts locked until somebody gives a passphrase.
//
// A random nonce of 96 bits is safe for 2^32 values under one key; rotate before that.
package seal

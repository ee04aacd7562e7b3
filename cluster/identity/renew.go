package identity

import (
	"crypto/x509"
	"hash/fnv"
	"time"
)

// RenewAt is when a certificate is to be replaced: a point between half and two
// thirds of its validity that seed picks, so that a cluster's nodes do not all
// ask in the same minute, and a third remains for managers that cannot be reached.
func RenewAt(c *x509.Certificate, seed uint64) time.Time {
	from := c.NotBefore.Add(Backdate)
	validity := c.NotAfter.Sub(from)
	const steps = 1 << 16
	part := time.Duration(seed % steps)
	return from.Add(validity/2 + validity/6/steps*part + validity/6%steps*part/steps)
}

// seedOf is the same for one certificate at every start of the node.
func seedOf(c *x509.Certificate) uint64 {
	h := fnv.New64a()
	h.Write(c.SerialNumber.Bytes())
	return h.Sum64() >> 16 // FNV's low bits mix worst
}

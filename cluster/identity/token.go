package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"regexp"
	"strings"

	"github.com/dhow-project/dhow/runtime"
)

// Token lets a machine join. Root lets the joiner know the cluster before it
// says anything; Secret lets the cluster know the joiner, and its role: there is
// one token for workers and one for managers.
type Token struct {
	Root   string // digest of a root of the cluster
	Secret string
}

const tokenPrefix = "DHOWTKN-1-"

var tokenForm = regexp.MustCompile(`^DHOWTKN-1-([0-9a-f]{64})-([a-z2-7]{32})$`)

// NewToken makes a token with a new secret of 160 bits.
func NewToken(rootDigest string) string {
	secret := make([]byte, 20)
	rand.Read(secret) // never fails
	return Token{Root: rootDigest, Secret: strings.ToLower(base32.StdEncoding.EncodeToString(secret))}.String()
}

func (t Token) String() string { return tokenPrefix + t.Root + "-" + t.Secret }

// ParseToken reads what a person or a joining node gives.
func ParseToken(s string) (Token, error) {
	m := tokenForm.FindStringSubmatch(s)
	if m == nil {
		return Token{}, fmt.Errorf("%w: join token: want DHOWTKN-1-<root digest>-<secret>, complete; `dhow swarm join-token worker` on a manager prints it", runtime.ErrInvalid)
	}
	return Token{Root: m[1], Secret: m[2]}, nil
}

// TokenMatches compares secrets in constant time. The root digests may differ:
// tokens written down before a rotation of the authority stay good until theirs
// is no longer shown.
func TokenMatches(presented, kept string) bool {
	p, errP := ParseToken(presented)
	k, errK := ParseToken(kept)
	if errP != nil || errK != nil {
		return false
	}
	a, b := sha256.Sum256([]byte(p.Secret)), sha256.Sum256([]byte(k.Secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// WithRoot is the token with the same secret for another root.
func (t Token) WithRoot(digest string) Token { return Token{Root: digest, Secret: t.Secret} }

package identity

import (
	"errors"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/runtime"
)

func TestTokens(t *testing.T) {
	root := strings.Repeat("ab", 32)
	a, b := NewToken(root), NewToken(root)
	ta, err := ParseToken(a)
	if err != nil || ta.Root != root || ta.String() != a {
		t.Fatalf("%+v, %v", ta, err)
	}
	if a == b || TokenMatches(a, b) || !TokenMatches(a, a) {
		t.Fatal("secrets")
	}
	// Written down before a rotation: another root, the same secret.
	if moved := ta.WithRoot(strings.Repeat("cd", 32)).String(); !TokenMatches(a, moved) {
		t.Fatal("a token does not outlive a rotation")
	}
	for _, bad := range []string{"", a[:len(a)-1], a + "x", " " + a, a + "\n", strings.ToUpper(a), strings.Replace(a, "-1-", "-2-", 1), strings.Repeat("x", 1<<20)} {
		if _, err := ParseToken(bad); !errors.Is(err, runtime.ErrInvalid) {
			t.Errorf("%.120q: %v", bad, err)
		}
		if TokenMatches(bad, bad) {
			t.Errorf("%.120q matches itself", bad)
		}
	}
}

func TestATokenErrorDoesNotTellTheToken(t *testing.T) {
	tok := NewToken(strings.Repeat("ab", 32))
	_, err := ParseToken(tok + "x")
	if err == nil || strings.Contains(err.Error(), tok[80:100]) {
		t.Fatalf("%v", err)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(NewToken(strings.Repeat("ab", 32)))
	f.Add("DHOWTKN-1--")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			return
		}
		if tok.String() != s || !TokenMatches(s, s) {
			t.Fatalf("%q becomes %q", s, tok)
		}
	})
}

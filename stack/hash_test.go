package stack

import "testing"

// A container without a watchdog is made again when its service becomes
// exclusive; the hashes of all others stay what they were.
func TestAServiceThatBecomesExclusiveHasAnotherHash(t *testing.T) {
	plain := Service{Name: "web"}
	exclusive := plain
	exclusive.Exclusive = true
	if plain.Hash() == exclusive.Hash() {
		t.Error("the same hash")
	}
}

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

// Resolvers of domains change under containers that run.
func TestForwardedDomainsAreNoPartOfAHash(t *testing.T) {
	plain := Stack{
		Name: "shop", Networks: map[string]Network{"front": {Name: "shop_front"}},
		Services: map[string]Service{"web": {Name: "web", Container: ContainerSpec{Networks: []Attachment{{Network: "front"}}}}},
	}
	forwarding := plain.Clone()
	n := forwarding.Networks["front"]
	n.Forward = map[string][]string{"corp.example": {"10.0.0.53"}}
	forwarding.Networks["front"] = n
	if plain.ServiceHash("web") != forwarding.ServiceHash("web") {
		t.Error("another hash")
	}
}

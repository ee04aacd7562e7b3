package engine

import (
	"fmt"
	"math/rand/v2"
	"regexp"

	"github.com/dhow-project/dhow/runtime"
)

// Words for containers that nobody named: of ships and weather.
var (
	adjectives = []string{
		"able", "ample", "azure", "balmy", "brave", "bright", "brisk", "calm", "clear", "coastal", "crisp", "deft",
		"eager", "early", "fair", "fast", "fleet", "free", "gentle", "golden", "grand", "hardy", "keen", "kind",
		"late", "lively", "loyal", "lucky", "merry", "mild", "misty", "neat", "noble", "patient", "plain", "proud",
		"quick", "quiet", "ready", "salty", "sharp", "silver", "sleek", "steady", "stout", "sunny", "sure", "swift",
		"tidal", "tidy", "trim", "trusty", "upright", "vivid", "warm", "wide", "wise", "witty", "young", "zesty",
	}
	nouns = []string{
		"anchor", "atoll", "bay", "beacon", "bow", "breeze", "buoy", "canvas", "cape", "captain", "cargo", "chart",
		"coast", "compass", "coral", "crew", "current", "deck", "delta", "dock", "eddy", "ferry", "fjord", "galley",
		"gull", "harbour", "helm", "hull", "island", "jetty", "keel", "kelp", "lagoon", "lantern", "mast", "monsoon",
		"moor", "oar", "osprey", "paddle", "pearl", "pier", "pilot", "port", "quay", "raft", "reef", "rigging",
		"rudder", "sail", "schooner", "shoal", "skiff", "spar", "stern", "strait", "tern", "tide", "wake", "wharf",
	}
	nameRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
)

// claimName reserves a name for a new container; an empty one is made up.
func (e *Engine) claimName(name, id string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for try := 0; name == ""; try++ {
		made := adjectives[rand.IntN(len(adjectives))] + "-" + nouns[rand.IntN(len(nouns))]
		if try > 3 {
			made += fmt.Sprintf("-%d", rand.IntN(1_000_000))
		}
		if _, taken := e.names[made]; !taken {
			name = made
		}
	}
	if !nameRE.MatchString(name) {
		return "", fmt.Errorf("container name %q: want letters, digits, '_', '.', '-', at least two, the first a letter or digit: %w", name, runtime.ErrInvalid)
	}
	if holder, taken := e.names[name]; taken {
		return "", fmt.Errorf("container name %q is in use by container %s: %w", name, holder, runtime.ErrConflict)
	}
	e.names[name] = id
	return name, nil
}

func (e *Engine) freeName(name, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.names[name] == id {
		delete(e.names, name)
	}
}

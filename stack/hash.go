package stack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Hash identifies everything of s that makes a running container differ: two
// services with equal hashes can share their containers. How many tasks there
// are, where they go, how they are updated, what they wait for and when the
// image is pulled is left out. It is 64 hex digits.
func (s Service) Hash() string { return digest(s.essence()) }

// essence is s without what a running container does not show.
func (s Service) essence() Service {
	e := Service{
		Name:          s.Name,
		Container:     s.Container,
		ContainerName: s.ContainerName,
		Mode:          s.Mode,
		Links:         s.Links,
		Exclusive:     s.Exclusive, // its containers are watched over
	}
	e.Container.Pull = ""
	e.Container.Platforms = nil // Digest says it all
	e.Container.Resources.ReservedNanoCPUs = 0
	e.Container.Resources.ReservedMemory = 0
	e.Container.Resources.Generic = nil
	e.Container.Secrets = Unpinned(s.Container.Secrets)
	e.Container.Configs = Unpinned(s.Container.Configs)
	return e
}

// Unpinned is refs without content and without what they meant when they were applied.
func Unpinned(refs []FileRef) []FileRef {
	out := slices.Clone(refs)
	for i := range out {
		out[i].Name, out[i].Sum, out[i].Data = "", "", nil
	}
	return out
}

// ServiceHash is Service.Hash together with the content of the secrets and
// configs that the service uses and the definitions of its networks and
// volumes: it changes when the service's containers have to be made again.
// It is "" for a service that the stack does not have.
func (s Stack) ServiceHash(name string) string {
	svc, ok := s.Services[name]
	if !ok {
		return ""
	}
	used := struct {
		Service  Service
		Networks map[string]Network
		Volumes  map[string]Volume
		Secrets  map[string]string
		Configs  map[string]string
	}{svc.essence(), map[string]Network{}, map[string]Volume{}, map[string]string{}, map[string]string{}}
	for _, a := range svc.Container.Networks {
		if n, ok := s.Networks[a.Network]; ok {
			used.Networks[a.Network] = n.Definition()
		}
	}
	for _, m := range svc.Container.Mounts {
		if v, ok := s.Volumes[m.Source]; ok && m.Type == MountVolume {
			used.Volumes[m.Source] = v
		}
	}
	for _, r := range svc.Container.Secrets {
		used.Secrets[r.Source] = s.Secrets[r.Source].Hash()
	}
	for _, r := range svc.Container.Configs {
		used.Configs[r.Source] = s.Configs[r.Source].Hash()
	}
	return digest(used)
}

// Hash identifies the name and the content of s.
func (s Secret) Hash() string { return digest([]any{s.Name, s.External, content(s.Sum, s.Data)}) }

// Hash identifies the name and the content of c.
func (c Config) Hash() string { return digest([]any{c.Name, c.External, content(c.Sum, c.Data)}) }

// content is what stands for data: in the replicated state, its sum. A hash
// without a key would let a short secret be guessed.
func content(sum string, data []byte) any {
	if sum != "" {
		return sum
	}
	return data
}

// Definition is n without what the replicated state adds to it, and without
// what changes in place.
func (n Network) Definition() Network {
	n.ID, n.Created, n.Forward = "", 0, nil
	return n
}

// digest hashes v's JSON, in which struct fields have a fixed order and map keys are sorted.
func digest(v any) string {
	data, err := json.Marshal(v)
	if err != nil { // cannot happen: plain data, no NaN (Validate)
		panic(fmt.Sprintf("stack: hash: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ServiceNames returns the names of the services, sorted.
func (s Stack) ServiceNames() []string { return slices.Sorted(maps.Keys(s.Services)) }

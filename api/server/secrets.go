package server

import (
	"net/http"
	"sort"

	"github.com/moby/moby/api/types/swarm"
)

// secretsOf lists the secrets or configs of all stacks, in one shape: Docker's
// two differ in no field that is filled here. Their content is told to nobody.
func (s *server) secretsOf(configs bool) []swarm.Secret {
	out := []swarm.Secret{}
	for _, st := range s.Stacks.Stacks() {
		add := func(name string, external bool, labels map[string]string) {
			if !external {
				out = append(out, swarm.Secret{ID: objectID(kindOf(configs), name), Meta: meta(st.Index, st.Created, st.Updated),
					Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: name, Labels: mergeLabels(labels, map[string]string{stackLabel: st.Stack.Name})}}})
			}
		}
		for _, one := range st.Stack.Secrets {
			if !configs {
				add(one.Name, one.External, one.Labels)
			}
		}
		for _, one := range st.Stack.Configs {
			if configs {
				add(one.Name, one.External, one.Labels)
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Spec.Name < out[j].Spec.Name })
	return out
}

func kindOf(configs bool) string {
	if configs {
		return "config"
	}
	return "secret"
}

func (s *server) listSecrets(configs bool) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		f, err := readFilters(r, "id", "label", "name", "names")
		if err != nil {
			return err
		}
		out := []swarm.Secret{}
		for _, one := range s.secretsOf(configs) {
			if f.prefix("id", one.ID) && f.prefix("name", one.Spec.Name) && f.exact("names", one.Spec.Name) && f.labels(one.Spec.Labels) {
				out = append(out, one)
			}
		}
		return ok(w, out)
	}
}

func (s *server) getSecret(configs bool) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		for _, one := range s.secretsOf(configs) {
			if ref := r.PathValue("id"); one.ID == ref || one.Spec.Name == ref {
				return ok(w, one)
			}
		}
		return notFound("%s %s not found", kindOf(configs), r.PathValue("id"))
	}
}

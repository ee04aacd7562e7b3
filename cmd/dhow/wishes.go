package main

import (
	"fmt"
	"strings"

	"github.com/dhow-project/dhow/stack/compose"
)

// imageWish is one image that services need.
type imageWish struct {
	ref, platform, policy string
	services              []string
	built                 bool // the file says how to build it
}

// explain adds to the error of a missing image what can be done about it.
func (w imageWish) explain(err error) error {
	if w.built {
		return hinted{fmt.Errorf("%w; the file has a build for it, but dhow does not build images yet", err), "build " + w.ref + " with another tool, then: dhow load -i ARCHIVE"}
	}
	return err
}

// wishes lists the images of services, each once, with the strictest policy asked for.
func wishes(p *compose.Project, services []string, override string) []imageWish {
	byKey := map[string]*imageWish{}
	var keys []string
	for _, name := range services {
		spec := p.Stack.Services[name].Container
		policy := spec.Pull
		if override != "" {
			policy = override
		}
		key := spec.Image + " " + spec.Platform
		w, ok := byKey[key]
		if !ok {
			w = &imageWish{ref: spec.Image, platform: spec.Platform, policy: policy}
			byKey[key] = w
			keys = append(keys, key)
		}
		if policy == "always" || (w.policy == "never" && policy != "never") {
			w.policy = policy
		}
		w.services = append(w.services, name)
		w.built = w.built || p.Builds(name)
	}
	out := make([]imageWish, len(keys))
	for i, k := range keys {
		out[i] = *byKey[k]
	}
	return out
}

func (w imageWish) who() string {
	if len(w.services) == 1 {
		return "service " + w.services[0]
	}
	return "services " + strings.Join(w.services, ", ")
}

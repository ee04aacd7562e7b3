package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/runtime"
)

// events streams what happens. Every event is flushed at once.
func (s *server) events(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "config", "container", "daemon", "event", "image", "label", "network", "node",
		"plugin", "scope", "secret", "service", "type", "volume")
	if err != nil {
		return err
	}
	since, err := timeParam(r, "since")
	if err != nil {
		return err
	}
	if r.URL.Query().Get("since") == "0" { // here it is a time: all that is remembered
		since = time.Unix(0, 1)
	}
	until, err := timeParam(r, "until")
	if err != nil {
		return err
	}
	if !since.IsZero() && !until.IsZero() && since.After(until) {
		return invalid("`since` time (%s) cannot be after `until` time (%s)", stamp(since), stamp(until))
	}
	if s.Bus == nil {
		return notYet("events")
	}
	incoming := s.Bus.Subscribe(r.Context(), since, until)
	w.Header().Set("Content-Type", "application/json")
	out := newCoalescer(w)
	for e := range incoming {
		if !f.event(&e) {
			continue
		}
		line, err := json.Marshal(toEvent(&e))
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			break // the client has gone
		}
	}
	_ = out.Close()
	return nil //nolint:nilerr // a client that has gone is no error
}

func toEvent(e *runtime.Event) api.EventMessage {
	out := api.EventMessage{Message: events.Message{
		Type: events.Type(e.Type), Action: events.Action(e.Action), Scope: "local",
		Actor: events.Actor{ID: e.ID, Attributes: mergeLabels(e.Attrs, nil)},
		Time:  e.Time.Unix(), TimeNano: e.Time.UnixNano(),
	}}
	if e.Type == "container" || e.Type == "image" {
		out.Status, out.ID = e.Action, e.ID
	}
	if e.Type == "container" {
		out.From = e.Attrs["image"]
	}
	return out
}

// event reports whether e passes: keys are joined with and, values of a key with or.
func (f filters) event(e *runtime.Event) bool {
	action, _, _ := strings.Cut(e.Action, ":") // "exec_create: sh" is also "exec_create"
	return f.exact("type", e.Type) && f.exact("scope", "local") && f.labels(e.Attrs) &&
		f.any("event", func(want string) bool { return want == e.Action || want == action }) &&
		f.actor("container", e) && f.actor("volume", e) && f.actor("network", e) && f.actor("daemon", e) &&
		f.actor("plugin", e) && f.actor("service", e) && f.actor("node", e) && f.actor("secret", e) && f.actor("config", e) &&
		f.image(e)
}

// actor matches what happened to one object, by name or ID.
func (f filters) actor(key string, e *runtime.Event) bool {
	return f.any(key, func(want string) bool {
		if e.Type != key {
			return key == "container" && e.Attrs["container"] != "" && e.Attrs["container"] == want
		}
		return e.ID == want || e.Attrs["name"] == want || len(want) >= 4 && strings.HasPrefix(e.ID, want)
	})
}

// image matches events of an image and of containers made from it.
func (f filters) image(e *runtime.Event) bool {
	return f.any("image", func(want string) bool {
		for _, name := range []string{e.ID, e.Attrs["name"], e.Attrs["image"]} {
			repo := name
			if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
				repo = name[:i]
			}
			if name != "" && (name == want || repo == want) && (e.Type == "image" || name == e.Attrs["image"]) {
				return true
			}
		}
		return false
	})
}

package server

import (
	"encoding/json"
	"net/http"
	"regexp"
	"sort"
	"strings"
)

// filters are the values asked for by key. A missing key matches everything.
type filters map[string][]string

// readFilters reads the filters parameter in both its forms,
// {"key":["a"]} and {"key":{"a":true}}. A key that is not among known is refused.
func readFilters(r *http.Request, known ...string) (filters, error) {
	raw := r.URL.Query().Get("filters")
	if raw == "" {
		return filters{}, nil
	}
	f, err := parseFilters(raw)
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(f))
	for key := range f {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		if !contains(known, key) {
			return nil, invalid("invalid filter '%s'", key)
		}
	}
	return f, nil
}

func parseFilters(raw string) (filters, error) {
	var byKey map[string]json.RawMessage
	if err := json.Unmarshal([]byte(raw), &byKey); err != nil {
		return nil, invalid("invalid filter: %s is not a map of lists or of maps", raw)
	}
	f := filters{}
	for key, data := range byKey {
		values, err := filterValues(data)
		if err != nil {
			return nil, invalid("invalid filter '%s': %s is neither a list nor a map of booleans", key, data)
		}
		f[key] = values
	}
	return f, nil
}

// filterValues reads ["a"] and {"a":true}.
func filterValues(data json.RawMessage) ([]string, error) {
	var values []string
	if json.Unmarshal(data, &values) == nil {
		return values, nil
	}
	var set map[string]bool
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, err
	}
	for value, on := range set {
		if on {
			values = append(values, value)
		}
	}
	sort.Strings(values)
	return values, nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// exact reports whether one of the values of key is v.
func (f filters) exact(key, v string) bool {
	values := f[key]
	return len(values) == 0 || contains(values, v)
}

// prefix reports whether v begins with one of the values of key.
func (f filters) prefix(key, v string) bool {
	return f.any(key, func(want string) bool { return strings.HasPrefix(v, want) })
}

// any reports whether match holds for one of the values of key.
func (f filters) any(key string, match func(want string) bool) bool {
	values := f[key]
	for _, want := range values {
		if match(want) {
			return true
		}
	}
	return len(values) == 0
}

// pattern reports whether one of the values of key, as a regular expression or
// as a part, is found in v.
func (f filters) pattern(key, v string) bool {
	return f.any(key, func(want string) bool {
		if re, err := regexp.Compile(want); err == nil && re.MatchString(v) {
			return true
		}
		return strings.Contains(v, want)
	})
}

// labels reports whether labels has all of "label" and none of "label!".
func (f filters) labels(labels map[string]string) bool {
	for _, want := range f["label"] {
		if !hasLabel(labels, want) {
			return false
		}
	}
	for _, unwanted := range f["label!"] {
		if hasLabel(labels, unwanted) {
			return false
		}
	}
	return true
}

func hasLabel(labels map[string]string, want string) bool {
	key, value, both := strings.Cut(want, "=")
	got, found := labels[key]
	return found && (!both || got == value)
}

// truthOf reads a boolean filter; ok is false when the key is not there.
func (f filters) truthOf(key string) (value, ok bool, err error) {
	values := f[key]
	if len(values) == 0 {
		return false, false, nil
	}
	for _, v := range values {
		switch strings.ToLower(v) {
		case "1", "true":
			return true, true, nil
		case "0", "false":
			return false, true, nil
		}
	}
	return false, false, invalid("invalid filter '%s=%s'", key, strings.Join(values, ","))
}

package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// flag reads a boolean query parameter the way Docker does: everything is
// true but "", "0", "no", "false" and "none".
func flag(r *http.Request, name string) bool {
	return truth(r.URL.Query().Get(name))
}

// flagOr is flag with a default for a parameter that is not there.
func flagOr(r *http.Request, name string, def bool) bool {
	if !r.URL.Query().Has(name) {
		return def
	}
	return flag(r, name)
}

func truth(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// timeParam reads "1700000000", "1700000000.25" or RFC 3339; "" and "0" are the zero time.
func timeParam(r *http.Request, name string) (time.Time, error) {
	s := r.URL.Query().Get(name)
	if s == "" || s == "0" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	sec, frac, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, invalid("%s: %q is neither a Unix time nor RFC 3339", name, s)
	}
	nanos := int64(0)
	if frac != "" {
		nanos, err = strconv.ParseInt((frac + "000000000")[:9], 10, 64)
		if err != nil || nanos < 0 {
			return time.Time{}, invalid("%s: %q is neither a Unix time nor RFC 3339", name, s)
		}
	}
	return time.Unix(seconds, nanos), nil
}

// sizeParams reads the height and width of a terminal.
func sizeParams(r *http.Request) (rows, cols uint16, err error) {
	q := r.URL.Query()
	h, err := strconv.ParseUint(q.Get("h"), 10, 16)
	if err != nil {
		return 0, 0, invalid("invalid resize height %q", q.Get("h"))
	}
	w, err := strconv.ParseUint(q.Get("w"), 10, 16)
	if err != nil {
		return 0, 0, invalid("invalid resize width %q", q.Get("w"))
	}
	return uint16(h), uint16(w), nil
}

// forever is longer than anybody waits and safe to add to a time.
const forever = 10 * 365 * 24 * time.Hour

// graceParam reads t, the seconds until a stop becomes a kill; nil when it is not there.
func graceParam(r *http.Request) (*time.Duration, error) {
	s := r.URL.Query().Get("t")
	if s == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil, invalid("t: %q is not a number of seconds", s)
	}
	d := seconds(n)
	return &d, nil
}

// seconds is n seconds; a negative n is without end, as in Docker.
func seconds(n int) time.Duration {
	if n < 0 || time.Duration(n) > forever/time.Second {
		return forever
	}
	return time.Duration(n) * time.Second
}

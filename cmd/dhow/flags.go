package main

import (
	"fmt"
	"strconv"
	"time"
)

// seconds is a flag that takes a number of seconds, as docker compose does, or
// a duration such as 1m30s. Its zero value is: not given.
type seconds struct{ d *time.Duration }

func (s *seconds) value() *time.Duration { return s.d }

// Set reads the flag's value.
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, serr := strconv.ParseFloat(text, 64); serr == nil {
		d, err = time.Duration(n*float64(time.Second)), nil
	}
	if err != nil || d < 0 {
		return fmt.Errorf("use a number of seconds, or a duration such as 1m30s")
	}
	s.d = &d
	return nil
}

func (s *seconds) String() string {
	if s == nil || s.d == nil {
		return ""
	}
	return s.d.String()
}

// Type of the flag in help texts.
func (s *seconds) Type() string { return "seconds" }

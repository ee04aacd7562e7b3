package stack

// Validate reports everything that is wrong with s, joined.
func (s Stack) Validate() error { return nil }

package cluster

import "github.com/dhow-project/dhow/stack"

// Topics are the networks of which a node is told.
func (m *Manager) Topics(string) []string { return nil }

// Directory is what is known of a topic, or of some keys of it.
func (m *Manager) Directory(string, []string) *stack.Directory { return &stack.Directory{} }

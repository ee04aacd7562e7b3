package schedule

import (
	"fmt"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// CheckConstraint reports what is wrong with a placement constraint.
func CheckConstraint(expr string) error {
	key, _, _, err := split(expr)
	if err != nil {
		return err
	}
	_, err = value(key, &stack.Node{})
	return err
}

// match evaluates one constraint: "node.labels.zone==east", "node.role != manager".
func match(expr string, n *stack.Node) (bool, error) {
	key, want, equal, err := split(expr)
	if err != nil {
		return false, err
	}
	have, err := value(key, n)
	if err != nil {
		return false, err
	}
	return strings.EqualFold(have, want) == equal, nil
}

func split(expr string) (key, want string, equal bool, err error) {
	if k, v, ok := strings.Cut(expr, "!="); ok {
		return strings.TrimSpace(k), strings.TrimSpace(v), false, nil
	}
	if k, v, ok := strings.Cut(expr, "=="); ok {
		return strings.TrimSpace(k), strings.TrimSpace(v), true, nil
	}
	return "", "", false, fmt.Errorf("constraint %q: want KEY==VALUE or KEY!=VALUE", expr)
}

func value(key string, n *stack.Node) (string, error) {
	if label, ok := strings.CutPrefix(key, "node.labels."); ok && label != "" {
		return n.Labels[label], nil
	}
	if label, ok := strings.CutPrefix(key, "engine.labels."); ok && label != "" {
		return n.EngineLabels[label], nil
	}
	switch key {
	case "node.id":
		return n.ID, nil
	case "node.hostname":
		return n.Hostname, nil
	case "node.role":
		return string(n.Role), nil
	case "node.platform.os":
		return n.OS, nil
	case "node.platform.arch":
		return n.Architecture, nil
	}
	return "", fmt.Errorf("constraint on %q: want node.id, node.hostname, node.role, node.platform.os, node.platform.arch, node.labels.NAME or engine.labels.NAME", key)
}

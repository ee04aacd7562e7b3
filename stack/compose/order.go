package compose

import (
	"fmt"

	"github.com/dhow-project/dhow/stack"
)

// warnOrder tells of services that ask for a new container beside the old one
// and cannot have it: their update stops the old one first.
func (l *load) warnOrder(st stack.Stack) {
	for _, name := range st.ServiceNames() {
		svc := st.Services[name]
		rules := map[string]*stack.UpdateRule{"update_config": svc.Deploy.Update, "rollback_config": svc.Deploy.Rollback}
		for _, key := range sortedKeys(rules) {
			why := svc.Beside(false)
			if rule := rules[key]; rule == nil || rule.Order != "start-first" || why == "" {
				continue
			}
			path := "services." + name + ".deploy." + key + ".order"
			file, line := l.position(path)
			l.warn = append(l.warn, (&Error{File: file, Line: line, Path: path, Msg: fmt.Sprintf(
				"start-first cannot be kept, as %s: the old container stops first", why)}).Error())
		}
	}
}

package compose

import (
	"fmt"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// warnUnreachable tells of published ports that lead nowhere: those of
// containers in internal networks only. Files that have them load elsewhere,
// where the ports stay away without a word, and such a container may join
// another network later: they are not refused.
func (l *load) warnUnreachable(st stack.Stack) {
	for _, name := range st.ServiceNames() {
		c := st.Services[name].Container
		if len(c.Ports) == 0 || len(c.Networks) == 0 || c.NetworkMode != "" {
			continue
		}
		var inner []string
		for _, at := range c.Networks {
			if st.Networks[at.Network].Internal {
				inner = append(inner, at.Network)
			}
		}
		if len(inner) < len(c.Networks) {
			continue
		}
		path := "services." + name + ".ports"
		file, line := l.position(path)
		l.warn = append(l.warn, (&Error{File: file, Line: line, Path: path, Msg: fmt.Sprintf(
			"nothing is published while the service is in internal networks only (%s): add a network that is not internal", strings.Join(inner, ", "))}).Error())
	}
}

package bind

import (
	"fmt"

	"github.com/opencontainers/selinux/go-selinux"
)

// Relabeler returns the function for volumes.Config.Relabel; nil on a host
// without SELinux. label tells the file label of a container for mode "Z".
func Relabeler(label func(user string) (string, error)) func(user, path, mode string) error {
	if !selinux.GetEnabled() {
		return nil
	}
	return func(user, path, mode string) error {
		l := "system_u:object_r:container_file_t:s0"
		if mode == "Z" {
			var err error
			if l, err = label(user); err != nil {
				return fmt.Errorf("label of %s: %w", user, err)
			}
		}
		if err := selinux.Chcon(path, l, true); err != nil {
			return fmt.Errorf("relabel %s: %w", path, err)
		}
		return nil
	}
}

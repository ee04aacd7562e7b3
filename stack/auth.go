package stack

import "fmt"

// RegistryAuth are credentials for one registry. They are encoded as JSON, but
// they do not print.
type RegistryAuth struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identityToken,omitempty"`
	RegistryToken string `json:"registryToken,omitempty"`
}

// Format keeps passwords out of messages, whatever the verb.
func (RegistryAuth) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(registry login)") }

package compose

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"
)

// Variable is one ${NAME} of the files.
type Variable struct {
	Name     string `json:"name"`
	Default  string `json:"default,omitempty"`
	Required bool   `json:"required,omitempty"`
	Value    string `json:"value,omitempty"` // what the environment says; "" also when it says nothing
	Set      bool   `json:"set"`
}

// variables replaces variables in one file and remembers which were used.
type variables struct {
	src   *source
	off   bool // --no-interpolate
	used  map[string]Variable
	unset map[string]*Error // variables without a value and a default, by line and name
}

// substitute is the value of a scalar once variables are replaced.
func (v *variables) substitute(n *yaml.Node, path string) (string, error) {
	if v.off || !strings.Contains(n.Value, "$") || scalarKind(n) != "string" {
		return n.Value, nil
	}
	text, err := template.SubstituteWithOptions(n.Value, v.lookup, template.WithoutLogging)
	if err != nil {
		return "", fmt.Errorf("%s", templateMessage(err))
	}
	for name, found := range template.ExtractVariables(map[string]any{"v": n.Value}, template.DefaultPattern) {
		value, set := v.lookup(name)
		if before, ok := v.used[name]; ok && found.DefaultValue == "" {
			found.DefaultValue = before.Default
		}
		v.used[name] = Variable{Name: name, Default: found.DefaultValue, Required: found.Required, Value: value, Set: set}
		if !set && found.DefaultValue == "" && found.PresenceValue == "" && !found.Required && !strings.Contains(n.Value, name+"-") && !strings.Contains(n.Value, name+":") {
			v.unset[fmt.Sprintf("%06d %s", n.Line, name)] = &Error{File: v.src.file, Line: n.Line, Path: path, Msg: "variable " + name + " is not set, it counts as empty"}
		}
	}
	return text, nil
}

func (v *variables) lookup(name string) (string, bool) {
	value, ok := v.src.env[name]
	return value, ok
}

// templateMessage says what is wrong with a variable, without the text around
// it: that may hold a password.
func templateMessage(err error) string {
	var missing *template.MissingRequiredError
	if asErr(err, &missing) {
		msg := "variable " + missing.Variable + " is required"
		if missing.Reason != "" {
			msg += ": " + missing.Reason
		}
		return msg
	}
	return strings.TrimSuffix(err.Error(), ".")
}

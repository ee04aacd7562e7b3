package server

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sort"
	"strings"

	"github.com/dhow-project/dhow/runtime"
)

// maxBody bounds JSON bodies.
const maxBody = 16 << 20

// readJSON decodes the body into v, which is a pointer to a struct. A field
// that v does not have is refused by its path when it is set to something;
// null, false, 0, "" and empty collections pass, because clients of other
// versions send their zero values along.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return invalid("request body is empty: JSON expected")
	}
	return decodeStrict(body, v)
}

// readOptionalJSON is readJSON for requests that may have no body.
func readOptionalJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if r.Body == nil || r.ContentLength == 0 {
		return nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	return decodeStrict(body, v)
}

func decodeStrict(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(v); err != nil {
		return jsonError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("request body: more than one JSON document")
	}
	var tree any
	if err := json.Unmarshal(body, &tree); err != nil {
		return jsonError(err)
	}
	return unknownFields("", tree, reflect.TypeOf(v))
}

func jsonError(err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) && typ.Field != "" {
		return invalid("%s: cannot read a JSON %s as %s", typ.Field, typ.Value, typ.Type)
	}
	if errors.Is(err, runtime.ErrInvalid) {
		return err
	}
	return invalid("request body: %v", err)
}

var (
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonType = reflect.TypeFor[json.Unmarshaler]()
)

// unknownFields walks tree beside t and reports the first set field that t lacks.
func unknownFields(path string, tree any, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(textType) || reflect.PointerTo(t).Implements(jsonType) {
		return nil
	}
	switch node := tree.(type) {
	case map[string]any:
		return unknownInObject(path, node, t)
	case []any:
		if t.Kind() != reflect.Slice && t.Kind() != reflect.Array {
			return nil
		}
		for i, child := range node {
			if err := unknownFields(fmt.Sprintf("%s[%d]", path, i), child, t.Elem()); err != nil {
				return err
			}
		}
	}
	return nil
}

func unknownInObject(path string, node map[string]any, t reflect.Type) error {
	names := make([]string, 0, len(node))
	for name := range node {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		sub, child := join(path, name), node[name]
		switch t.Kind() {
		case reflect.Map:
			if err := unknownFields(sub, child, t.Elem()); err != nil {
				return err
			}
		case reflect.Struct:
			f, found := fieldByJSON(t, name)
			if !found && !emptyJSON(child) {
				return invalid("%s: unknown field", sub)
			}
			if found {
				if err := unknownFields(sub, child, f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// fieldByJSON finds the type of the field that encoding/json would fill.
func fieldByJSON(t reflect.Type, name string) (reflect.Type, bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				if ft, found := fieldByJSON(inner, name); found {
					return ft, true
				}
				continue
			}
		}
		if tag == "" {
			tag = f.Name
		}
		if f.IsExported() && tag != "-" && strings.EqualFold(tag, name) {
			return f.Type, true
		}
	}
	return nil, false
}

func emptyJSON(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case bool:
		return !x
	case float64:
		return x == 0
	case string:
		return x == ""
	case []any:
		return len(x) == 0
	case map[string]any:
		return len(x) == 0
	}
	return false
}

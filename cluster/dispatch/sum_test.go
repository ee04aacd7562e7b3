package dispatch

import (
	"reflect"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// TestEveryFieldCounts but the status, which the node writes.
func TestEveryFieldCounts(t *testing.T) {
	base := itemSum(&taskItem{})
	var item taskItem
	v := reflect.ValueOf(&item).Elem()
	check := func(name string, f reflect.Value, same bool) {
		f.Set(filled(t, f.Type()))
		if (itemSum(&item) == base) != same {
			t.Errorf("a change of %s: same sum is %v, want %v", name, !same, same)
		}
		f.SetZero()
	}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "Task" {
			for j := range v.Field(i).NumField() {
				sub := v.Field(i).Type().Field(j).Name
				check("Task."+sub, v.Field(i).Field(j), sub == "Status")
			}
			continue
		}
		check(name, v.Field(i), name == "Sum")
	}
	item = taskItem{Task: stack.Task{Status: stack.TaskStatus{Message: "x"}}}
	if itemSum(&item); item.Task.Status.Message != "x" {
		t.Error("the status was lost")
	}
	a := taskItem{Secrets: map[string]string{"a": "1", "b": "2"}}
	b := taskItem{Secrets: map[string]string{"a": "2", "b": "1"}}
	if itemSum(&a) == itemSum(&b) {
		t.Error("maps with other values have one sum")
	}
	again := taskItem{Secrets: map[string]string{"b": "2", "a": "1"}}
	for range 20 { // maps are walked in another order each time
		if itemSum(&a) != itemSum(&again) {
			t.Fatal("equal maps have two sums")
		}
	}
}

// filled is a value that is not zero.
func filled(t *testing.T, typ reflect.Type) reflect.Value {
	v := reflect.New(typ).Elem()
	switch typ.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
		v.Elem().Set(filled(t, typ.Elem()))
	case reflect.Map:
		v.Set(reflect.MakeMap(typ))
		v.SetMapIndex(filled(t, typ.Key()), filled(t, typ.Elem()))
	case reflect.Slice:
		v.Set(reflect.Append(v, filled(t, typ.Elem())))
	case reflect.Struct:
		if typ == timeType {
			return reflect.ValueOf(time.Unix(7, 0))
		}
		v.Field(0).Set(filled(t, typ.Field(0).Type))
	default:
		t.Fatalf("no value of %v", typ)
	}
	return v
}

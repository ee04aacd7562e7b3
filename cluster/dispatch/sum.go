package dispatch

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// sum is short for content that no enemy chooses.
func sum(data []byte) uint64 {
	all := sha256.Sum256(data)
	return binary.BigEndian.Uint64(all[:8])
}

// itemSum is the same in every process of one version: a leader compares it with
// what its predecessor gave. The status is left out: the node writes it, and
// knows it better. Encoding the task would say the same in fifteen times as long,
// which counts when ten thousand nodes call at once.
func itemSum(item *taskItem) uint64 {
	status := item.Task.Status
	item.Sum, item.Task.Status = 0, stack.TaskStatus{}
	h := hasher(14695981039346656037)
	h.value(reflect.ValueOf(item).Elem())
	item.Task.Status = status
	return uint64(h)
}

// hasher is FNV-1a over a value's parts.
type hasher uint64

func (h *hasher) word(x uint64) {
	*h = (*h ^ hasher(x)) * 1099511628211
	*h ^= *h >> 29
}

func (h *hasher) text(s string) {
	x := uint64(*h)
	for i := range len(s) {
		x = (x ^ uint64(s[i])) * 1099511628211
	}
	*h = hasher(x)
	h.word(uint64(len(s)))
}

var timeType = reflect.TypeFor[time.Time]()

// value takes in whatever nouns are made of.
func (h *hasher) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		h.text(v.String())
	case reflect.Bool:
		if v.Bool() {
			h.word(1)
		} else {
			h.word(2)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		h.word(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		h.word(v.Uint())
	case reflect.Pointer:
		h.word(uint64(v.Kind()))
		if !v.IsNil() {
			h.value(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		h.word(uint64(v.Len()))
		for i := range v.Len() {
			h.value(v.Index(i))
		}
	case reflect.Map:
		h.table(v)
	case reflect.Struct:
		if v.Type() == timeType {
			h.word(uint64(v.Interface().(time.Time).UnixNano()))
			return
		}
		for i := range v.NumField() {
			h.value(v.Field(i))
		}
	default:
		h.text(fmt.Sprint(v)) // floats; nouns have nothing else
	}
}

// table takes in a map, in an order of its own.
func (h *hasher) table(v reflect.Value) {
	if v.IsNil() {
		h.word(uint64(reflect.Map))
		return
	}
	h.word(uint64(v.Len()))
	if v.Len() == 0 {
		return
	}
	parts := make([]uint64, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		one := hasher(14695981039346656037)
		one.value(it.Key())
		one.value(it.Value())
		parts = append(parts, uint64(one))
	}
	slices.Sort(parts)
	for _, p := range parts {
		h.word(p)
	}
}

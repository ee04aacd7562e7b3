package stack

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fill sets every field below v to something that is not zero.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), n)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{"a", "b"} {
			elem := reflect.New(v.Type().Elem()).Elem()
			fill(elem, n)
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), elem)
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n%100 + 1))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n%100 + 1))
	case reflect.Float64:
		v.SetFloat(0.5)
	}
}

func filled[T any]() T {
	var v T
	n := 0
	fill(reflect.ValueOf(&v).Elem(), &n)
	return v
}

// shared finds memory that a and b have in common.
func shared(t *testing.T, a, b reflect.Value, path string) {
	t.Helper()
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if a.IsNil() || b.IsNil() {
			t.Errorf("%s: nil", path)
			return
		}
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
		}
	}
	switch a.Kind() {
	case reflect.Pointer:
		shared(t, a.Elem(), b.Elem(), path)
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, a.Field(i), b.Field(i), path+"."+a.Type().Field(i).Name)
		}
	case reflect.Slice:
		for i := range a.Len() {
			shared(t, a.Index(i), b.Index(i), path+"[]")
		}
	case reflect.Map:
		for _, key := range a.MapKeys() {
			shared(t, a.MapIndex(key), b.MapIndex(key), path+"[]")
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	a := filled[Stack]()
	b := a.Clone()
	if diff := cmp.Diff(a, b); diff != "" {
		t.Fatal(diff)
	}
	shared(t, reflect.ValueOf(a), reflect.ValueOf(b), "Stack")
	if diff := cmp.Diff(Stack{}, Stack{}.Clone()); diff != "" {
		t.Fatalf("the zero stack: %s", diff)
	}
}

// TestJSONKeepsEverything: a stack that went through the replicated state or the API is the same stack.
func TestJSONKeepsEverything(t *testing.T) {
	for name, a := range map[string]Stack{
		"filled": filled[Stack](),
		"empty lists": {Services: map[string]Service{"web": {Container: ContainerSpec{
			Entrypoint: []string{}, Command: []string{}, MaskedPaths: []string{}, ReadonlyPaths: []string{}}}}},
	} {
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var b Stack
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestHashSeesTheContainer changes one field after the other: the hash changes
// with all of them, but for those that a running container does not show.
func TestHashSeesTheContainer(t *testing.T) {
	unseen := map[string]bool{"Pull": true, "Platforms": true}
	base := Service{Name: "web", Container: filled[ContainerSpec]()}
	spec := reflect.TypeFor[ContainerSpec]()
	for i := range spec.NumField() {
		changed := base.Clone()
		f := reflect.ValueOf(&changed.Container).Elem().Field(i)
		f.SetZero()
		if name := spec.Field(i).Name; (changed.Hash() == base.Hash()) != unseen[name] {
			t.Errorf("%s: hash changes: %v", name, changed.Hash() != base.Hash())
		}
	}
	for name, change := range map[string]func(*Service){
		"Replicas":  func(s *Service) { s.Replicas = 7 },
		"Deploy":    func(s *Service) { s.Deploy.MaxReplicasPerNode = 3 },
		"DependsOn": func(s *Service) { s.DependsOn = []Dependency{{Service: "x"}} },
		"Labels":    func(s *Service) { s.Labels = map[string]string{"a": "b"} },
		"Profiles":  func(s *Service) { s.Profiles = []string{"p"} },
		"data":      func(s *Service) { s.Container.Secrets[0].Data = []byte("x") },
		"reserved":  func(s *Service) { s.Container.Resources.ReservedMemory = 1 },
		"build":     func(s *Service) { s.Build = true },
	} {
		changed := base.Clone()
		change(&changed)
		if changed.Hash() != base.Hash() {
			t.Errorf("%s changes the hash", name)
		}
	}
}

func TestServiceHashSeesWhatItUses(t *testing.T) {
	base := Stack{
		Services: map[string]Service{"web": {Name: "web", Container: ContainerSpec{
			Networks: []Attachment{{Network: "n"}}, Mounts: []Mount{{Type: MountVolume, Source: "v"}},
			Secrets: []FileRef{{Source: "s"}}, Configs: []FileRef{{Source: "c"}}}}},
		Networks: map[string]Network{"n": {Name: "n"}, "other": {}},
		Volumes:  map[string]Volume{"v": {Name: "v"}},
		Secrets:  map[string]Secret{"s": {Data: []byte("1")}, "other": {}},
		Configs:  map[string]Config{"c": {Data: []byte("1")}},
	}
	want := map[string]bool{}
	check := func(name string, differs bool, change func(*Stack)) {
		want[name] = differs
		s := base.Clone()
		change(&s)
		if (s.ServiceHash("web") != base.ServiceHash("web")) != differs {
			t.Errorf("%s: differs: %v", name, !differs)
		}
	}
	check("secret", true, func(s *Stack) { s.Secrets["s"] = Secret{Data: []byte("2")} })
	check("config", true, func(s *Stack) { s.Configs["c"] = Config{Data: []byte("2")} })
	check("network", true, func(s *Stack) { s.Networks["n"] = Network{Name: "n", Internal: true} })
	check("network ID", false, func(s *Stack) { s.Networks["n"] = Network{Name: "n", ID: "x", Created: 5} })
	check("volume", true, func(s *Stack) { s.Volumes["v"] = Volume{Name: "w"} })
	check("other network", false, func(s *Stack) { s.Networks["other"] = Network{Internal: true} })
	check("other secret", false, func(s *Stack) { s.Secrets["other"] = Secret{Data: []byte("2")} })
	if base.ServiceHash("nope") != "" {
		t.Error("a service that does not exist has a hash")
	}
}

func TestDependencyOrder(t *testing.T) {
	s := Stack{Services: map[string]Service{
		"web":  {DependsOn: []Dependency{{Service: "app"}, {Service: "gone"}}},
		"app":  {Links: []string{"db:database"}},
		"db":   {},
		"side": {Container: ContainerSpec{NetworkMode: "service:web", VolumesFrom: []string{"service:db:ro", "some-container"}}},
		"lone": {},
	}}
	levels, err := s.DependencyOrder()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"db", "lone"}, {"app"}, {"web"}, {"side"}}, levels); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]string{"app", "db", "web"}, s.Closure([]string{"web", "nope"})); diff != "" {
		t.Fatal(diff)
	}
	db := s.Services["db"]
	db.Container.PIDMode = "service:side"
	s.Services["db"] = db
	if _, err := s.DependencyOrder(); err == nil || err.Error() != "dependency cycle: db -> side -> db" {
		t.Fatal(err)
	}
}

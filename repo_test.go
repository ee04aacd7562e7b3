package dhow_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/dhow-project/dhow"

// goFile is one parsed source file.
type goFile struct {
	path  string // from the root
	dir   string // "" is the root
	test  bool
	lines int
	ast   *ast.File
	fset  *token.FileSet
}

func (f goFile) imports() []string {
	var out []string
	for _, i := range f.ast.Imports {
		out = append(out, strings.Trim(i.Path.Value, `"`))
	}
	return out
}

func sources(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "build") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(p))
		if dir == "." {
			dir = ""
		}
		files = append(files, goFile{
			path: filepath.ToSlash(p), dir: dir, test: strings.HasSuffix(p, "_test.go"),
			lines: fset.File(f.Pos()).LineCount(), ast: f, fset: fset,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// within says whether dir is one of the patterns; "a/b/..." takes what is below a/b as well.
func within(dir string, patterns ...string) bool {
	for _, p := range patterns {
		base, tree := strings.CutSuffix(p, "/...")
		if dir == base || tree && strings.HasPrefix(dir, base+"/") {
			return true
		}
	}
	return false
}

// layers says which of our own packages a package may import. The first row
// that matches counts. Wiring packages may import all.
var layers = []struct {
	who    []string
	may    []string
	reason string
}{
	{[]string{"stack"}, nil, "nouns import the standard library only"},
	{[]string{"runtime"}, []string{"stack"}, "nouns of the node side"},
	{[]string{"runtime/events"}, []string{"runtime"}, "an event bus carries nouns"},
	{[]string{"stack/compose"}, []string{"stack"}, "an adapter from files to nouns"},
	{[]string{"stack/plan"}, []string{"stack"}, "a pure subject"},
	{[]string{"overlaynet/ipam"}, []string{"stack"}, "a pure subject"},
	{[]string{"overlaynet"}, []string{"stack", "runtime", "overlaynet/ipam"}, "a subject declares the interfaces it needs"},
	{[]string{"overlaynet/nettest"}, nil, "a harness for kernel tests knows no subject"},
	{[]string{"overlaynet/..."}, []string{"stack", "runtime", "overlaynet", "overlaynet/ipam"}, "adapters never import each other"},
	{[]string{"volumes"}, []string{"stack", "runtime", "volumes/internal/..."}, "a subject declares the interfaces it needs"},
	{[]string{"volumes/volumestest"}, []string{"stack", "runtime", "volumes", "volumes/..."}, "wires the drivers for tests"},
	{[]string{"volumes/backup/..."}, []string{"stack", "runtime", "volumes", "volumes/internal/...", "volumes/backup", "volumes/backup/archive"}, "engines of one subject share its archive format"},
	{[]string{"volumes/backup"}, []string{"stack", "runtime", "volumes", "volumes/internal/...", "volumes/backup/archive"}, "engines of one subject share its archive format"},
	{[]string{"volumes/..."}, []string{"stack", "runtime", "volumes", "volumes/internal/..."}, "adapters never import each other"},
	{[]string{"runtime/agent"}, []string{"stack", "runtime"}, "a subject declares the interfaces it needs"},
	{[]string{"runtime/oci", "runtime/health"}, []string{"stack", "runtime"}, "translation of nouns"},
	{[]string{"runtime/image/..."}, []string{"stack", "runtime", "internal/logins"}, "adapters never import each other"},
	{[]string{"runtime/shim/...", "cmd/dhow-shim"}, []string{"stack", "runtime", "runtime/shim/..."}, "resident once per container: few imports"},
	{[]string{"runtime/runtimetest"}, []string{"stack", "runtime", "runtime/events"}, "a fake of the engine's callers"},
	{[]string{"runtime/engine"}, []string{"stack", "runtime", "runtime/events", "runtime/oci", "runtime/health", "runtime/shim/...", "overlaynet", "volumes", "internal/sparse"}, "drives its own tools; other subjects by their types only"},
	{[]string{"cluster/state", "cluster/reconcile", "cluster/schedule"}, []string{"stack", "stack/plan", "cluster/state", "cluster/schedule"}, "pure subjects"},
	{[]string{"cluster/address"}, []string{"stack", "cluster/state", "overlaynet/ipam"}, "a pure subject; what an address is, a network's own books say on each node as here"},
	{[]string{"cluster/loop"}, []string{"stack", "cluster/state", "cluster/schedule", "cluster/reconcile", "cluster/address"}, "wires the pure subjects, and is as pure itself"},
	{[]string{"cluster/consensus", "cluster/dispatch", "cluster/gossip"}, []string{"stack", "cluster/state"}, "adapters never import each other"},
	{[]string{"cluster/identity", "cluster/seal"}, []string{"stack", "runtime", "internal/durable"}, "certificates and keys of one node: no network, no state"},
	{[]string{"cluster/port"}, []string{"stack", "runtime", "cluster/identity"}, "connections by identity; what they carry is others'"},
	{[]string{"cluster/node"}, []string{"stack", "stack/plan", "runtime", "runtime/agent", "runtime/shim/lease", "internal/durable", "cluster", "cluster/..."}, "wires a machine into a cluster"},
	{[]string{"cluster"}, []string{"stack", "stack/plan", "runtime", "internal/durable", "cluster/..."}, "wires the manager's parts"},
	{[]string{"api"}, []string{"stack", "stack/plan", "runtime"}, "types only"},
	{[]string{"api/client"}, []string{"api", "stack", "stack/plan", "runtime"}, "knows the wire, not the daemon"},
	{[]string{"api/server"}, []string{"api", "stack", "stack/plan", "runtime", "runtime/events", "cluster", "volumes/..."}, "translation only; declares what it serves"},
	{[]string{"internal/daemon"}, []string{"..."}, "wires a node"},
	{[]string{"cmd/dhow/..."}, []string{"api", "api/client", "stack/...", "runtime", "internal/...", "cmd/dhow/..."}, "a thin client; the daemon comes from internal/daemon"},
	{[]string{"internal/..."}, []string{"stack", "runtime", "internal/..."}, "small helpers"},
	{[]string{"", "tests/..."}, []string{"..."}, "tests see all"},
}

func TestImportsFollowTheLayers(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue // tests may wire real neighbours
		}
		row := -1
		for i, l := range layers {
			if within(f.dir, l.who...) {
				row = i
				break
			}
		}
		if row < 0 {
			t.Errorf("%s: package %s has no row in the import table", f.path, f.dir)
			continue
		}
		for _, imp := range f.imports() {
			own, ok := strings.CutPrefix(imp, module+"/")
			if !ok || within(own, layers[row].may...) || within("...", layers[row].may...) || own == f.dir {
				continue
			}
			t.Errorf("%s imports %s: %s", f.path, own, layers[row].reason)
		}
	}
}

// homes says which packages may import a third-party subject. The check of whole
// clusters reads the kernel and asks resolvers by itself: with the code that it
// checks, it would find what that code believes.
var homes = map[string][]string{
	"github.com/compose-spec/compose-go":   {"stack/compose"},
	"github.com/hashicorp/raft":            {"cluster/consensus"},
	"github.com/hashicorp/raft-wal":        {"cluster/consensus"},
	"github.com/hashicorp/memberlist":      {"cluster/gossip"},
	"google.golang.org/grpc":               {"cluster/dispatch"},
	"github.com/vishvananda/netlink":       {"overlaynet/link", "overlaynet/lb", "overlaynet/nettest", "tests/cluster"},
	"github.com/google/nftables":           {"overlaynet/lb", "overlaynet/link"},
	"github.com/miekg/dns":                 {"overlaynet/dns", "tests/cluster"},
	"github.com/containerd/containerd":     {"runtime/image/...", "runtime/oci"},
	"github.com/moby/moby/api":             {"api/server", "api/client", "api", "cmd/dhow", "tests/..."},
	"github.com/spf13/cobra":               {"cmd/dhow/..."},
	"github.com/distribution/distribution": {"tests/...", "runtime/image/imagetest"},
	"github.com/rogpeppe/go-internal":      {"tests/..."},
	"go.etcd.io/bbolt":                     {"runtime/image", "runtime/engine", "cluster/consensus"},
}

func TestThirdPartySubjectsHaveOneHome(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, imp := range f.imports() {
			for subject, dirs := range homes {
				if (imp == subject || strings.HasPrefix(imp, subject+"/")) && !within(f.dir, dirs...) {
					t.Errorf("%s imports %s, whose home is %s", f.path, imp, strings.Join(dirs, ", "))
				}
			}
		}
	}
}

func TestNounsImportTheStandardLibraryOnly(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || !within(f.dir, "stack", "runtime") {
			continue
		}
		for _, imp := range f.imports() {
			if strings.Contains(imp, ".") && imp != module+"/stack" {
				t.Errorf("%s imports %s: nouns import the standard library only", f.path, imp)
			}
		}
	}
}

// impure lists calls that make a decision depend on more than its arguments.
var impure = map[string][]string{
	"time":        {"Now", "Since", "Until", "After", "Sleep", "NewTimer", "NewTicker", "Tick"},
	"math/rand":   {"*"},
	"crypto/rand": {"*"},
	"os":          {"Getenv", "Open", "ReadFile", "Hostname", "Environ", "Stat"},
	"log/slog":    {"*"},
}

func TestPurePackagesStayPure(t *testing.T) {
	pure := []string{"stack", "stack/plan", "cluster/state", "cluster/reconcile", "cluster/schedule", "cluster/loop", "cluster/address", "overlaynet/ipam"}
	for _, f := range sources(t) {
		if f.test || !within(f.dir, pure...) {
			continue
		}
		for _, imp := range f.imports() {
			calls, ok := impure[strings.TrimSuffix(imp, "/v2")]
			if !ok {
				continue
			}
			name := filepath.Base(strings.TrimSuffix(imp, "/v2"))
			ast.Inspect(f.ast, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == name && x.Obj == nil {
					for _, c := range calls {
						if c == "*" || c == sel.Sel.Name {
							t.Errorf("%s: %s.%s in a pure package: pass it as an argument", f.fset.Position(n.Pos()), name, sel.Sel.Name)
						}
					}
				}
				return true
			})
		}
	}
}

// TestEveryPackageHasOneDoc: who opens a package knows where to begin.
func TestEveryPackageHasOneDoc(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range sources(t) {
		if f.test || f.dir == "" {
			continue
		}
		if docs[f.dir] == nil {
			docs[f.dir] = []string{}
		}
		if f.ast.Doc != nil {
			docs[f.dir] = append(docs[f.dir], f.path)
		}
	}
	for dir, d := range docs {
		if len(d) != 1 || filepath.Base(d[0]) != "doc.go" {
			t.Errorf("package %s has its package comments in %v, want one in doc.go", dir, d)
		}
	}
}

func TestFilesAreOneConcept(t *testing.T) {
	for _, f := range sources(t) {
		if f.lines > 600 {
			t.Errorf("%s has %d lines: is it one concept?", f.path, f.lines)
		}
	}
}

func TestNoPackageIsCalledUtil(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range sources(t) {
		seen[f.dir] = true
	}
	var dirs []string
	for d := range seen {
		dirs = append(dirs, d)
	}
	sort.Strings(dirs)
	for _, d := range dirs {
		switch filepath.Base(d) {
		case "util", "utils", "helper", "helpers", "common", "misc":
			t.Errorf("package %s: name it after what it does", d)
		}
	}
}

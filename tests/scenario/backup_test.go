package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/tests/netlab"
)

// tmpfs is a directory that holds so many bytes.
func (s *S) tmpfs(size int) string {
	s.Helper()
	dir := s.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			s.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// status of a container.
func (s *S) status(name string, want string) {
	s.Helper()
	if got := s.inspect(name).State.Status; got != want {
		s.Errorf("container %s is %s, want %s", name, got, want)
	}
}

// content of a volume: everything that a copy must have in common with it.
func (s *S) content(volume string) string {
	s.Helper()
	dir := filepath.Join(s.DataDir, "volumes", volume, "_data")
	r := s.Exec("sh", "-c", "cd "+dir+` && find . -printf '%P %y %m %U:%G %n %l %T@\n' | sort && find . -type f -print0 | sort -z | xargs -0 -r sha256sum && getfattr -dhR -m - . 2>/dev/null | sort`)
	if r.Code != 0 {
		s.Fatal(r.Err())
	}
	return r.Stdout
}

func TestBackupOfALiveDatabase(t *testing.T) {
	s := Scenario(t, "a backup of a running PostgreSQL restores to its rows, in place and as a new volume", "postgres:15")
	const file = `
name: bank
services:
  db:
    image: postgres:15
    environment: {POSTGRES_PASSWORD: secret}
    volumes: ["%s:/var/lib/postgresql/data"]
    stop_signal: SIGINT
    healthcheck: {test: [CMD, pg_isready, -U, postgres, -h, 127.0.0.1], interval: 1s, start_interval: 100ms, start_period: 30s}
volumes: {%s}
`
	repo := filepath.Join(t.TempDir(), "repo")
	sql := func(text string) string {
		t.Helper()
		return strings.TrimSpace(s.Run("exec", "-T", "db", "psql", "-h", "127.0.0.1", "-U", "postgres", "-qtAc", text))
	}
	s.Compose(fmt.Sprintf(file, "data", "data: {}"))
	s.Run("up", "-d", "--wait")
	sql("create table accounts(n int primary key); insert into accounts select generate_series(1,1000)")

	var first string
	s.Step("paused while it is read, and running afterwards", func() {
		pid := s.inspect("bank-db-1").State.Pid
		first = strings.TrimSpace(s.Run("volume", "backup", "bank_data", "--to", repo))
		s.status("bank-db-1", "running")
		if in := s.inspect("bank-db-1"); in.State.Pid != pid {
			t.Error("the container was restarted")
		}
	})
	s.Step("stopped while it is read, and running afterwards", func() {
		sql("insert into accounts values (1001)")
		s.Run("volume", "backup", "bank_data", "--to", repo, "--users", "stop")
		s.Until("the database answers again", func() error { return s.TryIn("exec", "-T", "db", "pg_isready", "-h", "127.0.0.1").Err() })
		if got := sql("select count(*) from accounts"); got != "1001" {
			t.Errorf("rows: %s", got)
		}
	})
	s.Step("both are listed and intact", func() {
		if out := s.Run("volume", "backups", "--from", repo, "bank_data"); strings.Count(out, "bank_data") != 2 || !strings.Contains(out, first) {
			t.Errorf("backups: %s", out)
		}
		s.Run("volume", "verify", "--from", repo, "bank_data")
	})
	s.Step("a full repository is an error, leaves nothing, and the database runs on", func() {
		small := s.tmpfs(1 << 20)
		s.Refused([]string{"volume", "backup", "bank_data", "--to", small + "/repo"}, "bank_data", "no space left")
		s.status("bank-db-1", "running")
		if left := s.Exec("find", small, "-type", "f", "-size", "+1k").Stdout; left != "" {
			t.Errorf("left in the repository: %s", left)
		}
	})
	s.Step("in place: rows written since are gone, those of the backup are there", func() {
		s.Run("volume", "restore", "--from", repo, "bank_data@"+first)
		s.Until("the database answers again", func() error { return s.TryIn("exec", "-T", "db", "pg_isready", "-h", "127.0.0.1").Err() })
		if got := sql("select count(*), max(n) from accounts"); got != "1000|1000" {
			t.Errorf("rows: %s", got)
		}
	})
	s.Step("as a new volume, for another database beside it", func() {
		s.Run("volume", "restore", "--from", repo, "bank_data", "--as", "copy")
		s.Compose(strings.Replace(fmt.Sprintf(file, "copy", "copy: {external: true, name: copy}"), "name: bank", "name: branch", 1))
		s.Run("up", "-d", "--wait")
		if got := sql("select count(*), max(n) from accounts"); got != "1001|1001" {
			t.Errorf("rows: %s", got)
		}
		s.Run("down", "-v")
		if got := s.volumeNames(); !contains(got, "copy", "bank_data") {
			t.Errorf("volumes: %v", got)
		}
	})
	s.Step("exported and imported", func() {
		archive := filepath.Join(t.TempDir(), "copy.tar.zst")
		if r := s.TryWith(netlab.Input{Dir: s.Dir}, "volume", "export", "copy", "-o", archive); r.Code != 0 {
			t.Fatal(r.Err())
		}
		s.Run("volume", "import", "imported", "-i", archive)
		if a, b := s.content("copy"), s.content("imported"); a != b {
			t.Errorf("the imported volume differs:\n%s\n%s", a, b)
		}
	})
	s.Run("down", "-v", "-p", "bank")
	s.Clean()
}

func TestBackupsKeepEverythingAndDamageIsNamed(t *testing.T) {
	s := Scenario(t, "a restored volume is the same to the last attribute; a damaged backup or archive changes nothing", "busybox:latest")
	repo := filepath.Join(t.TempDir(), "repo")
	s.Run("volume", "create", "odd")
	dir := filepath.Join(s.DataDir, "volumes", "odd", "_data")
	if r := s.Exec("sh", "-c", "cd "+dir+` && set -e
mkdir -p d/e empty; echo a > d/a; ln d/a d/hard; ln -s ../d/a d/soft; ln -s /nowhere dangling
chown 1000:2000 d/a; chmod 4751 d/a; chmod 1770 d/e; chown -h 5:6 d/soft; mkfifo pipe; mknod null c 1 3
truncate -s 50M sparse; printf x | dd of=sparse bs=1 seek=30000000 conv=notrunc 2>/dev/null
setfattr -n user.note -v hello d/a; setfattr -n trusted.t -v 1 d; setcap cap_net_raw+ep d/a 2>/dev/null || true
setfacl -m u:1234:rw d/e 2>/dev/null || true
touch -d '2001-02-03 04:05:06.123456789' d/a d; printf 'odd\n' > "$(printf 'new\nline \377')"
head -c 3000000 /dev/urandom > random`); r.Code != 0 {
		t.Fatal(r.Err())
	}
	want := s.content("odd")
	id := strings.TrimSpace(s.Run("volume", "backup", "odd", "--to", repo))

	s.Step("restored as a new volume, byte for byte", func() {
		s.Run("volume", "restore", "--from", repo, "odd", "--as", "same")
		if got := s.content("same"); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
		if r := s.Exec("sh", "-c", "du -k "+filepath.Join(s.DataDir, "volumes/same/_data/sparse")+" | cut -f1"); len(strings.TrimSpace(r.Stdout)) > 3 {
			t.Errorf("the sparse file occupies %s KiB", r.Stdout)
		}
	})
	backup := filepath.Join(repo, "volumes", "odd", strings.TrimPrefix(id, "odd@"))
	for _, tc := range []struct {
		name, script string
		words        []string
	}{
		{"a flipped byte", `printf '\377' | dd of=data.tar.zst bs=1 seek=1000000 conv=notrunc 2>/dev/null`, []string{"random"}},
		{"a truncated archive", `truncate -s -5000 data.tar.zst`, []string{"data.tar.zst"}},
		{"a missing archive", `rm data.tar.zst`, []string{"data.tar.zst"}},
		{"a missing index", `rm files.jsonl.zst`, []string{"files.jsonl.zst"}},
		{"a changed manifest", `sed -i 's/"files":/"filez":/' manifest.json`, []string{"manifest"}},
	} {
		s.Step(tc.name+" is named, and nothing changes", func() {
			if r := s.Exec("sh", "-c", "rm -rf "+backup+".ok && cp -a "+backup+" "+backup+".ok && cd "+backup+" && "+tc.script); r.Code != 0 {
				t.Fatal(r.Err())
			}
			r := s.TryIn("volume", "verify", "--from", repo, "odd")
			for _, w := range append(tc.words, id) {
				if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, w) {
					t.Errorf("verify: exit code %d, lacks %q: %s%s", r.Code, w, r.Stdout, r.Stderr)
				}
			}
			s.Refused([]string{"volume", "restore", "--from", repo, "odd"}, tc.words...)
			s.Refused([]string{"volume", "restore", "--from", repo, "odd", "--as", "broken"}, tc.words...)
			if got := s.content("odd"); got != want {
				t.Errorf("the volume changed:\n%s", got)
			}
			if got := s.volumeNames(); len(got) != 2 {
				t.Errorf("volumes: %v", got)
			}
			if err := os.RemoveAll(backup); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(backup+".ok", backup); err != nil {
				t.Fatal(err)
			}
		})
	}
	evil := t.TempDir()
	if r := s.Exec("sh", "-c", "cd "+evil+` && set -e; echo x > f; mkdir sub; ln -s /tmp lnk
tar -cf dots.tar --transform 's,^f$,../../../evil,' -P f
tar -cf abs.tar --transform 's,^f$,/tmp/dhow-evil,' -P f
tar -cf link.tar lnk && rm lnk && mkdir lnk && echo x > lnk/dhow-evil && tar -rf link.tar lnk/dhow-evil
tar -cf half.tar f sub && truncate -s 700 half.tar
echo 'not an archive at all' > text.tar`); r.Code != 0 {
		t.Fatal(r.Err())
	}
	for _, name := range []string{"dots", "link", "half", "text"} {
		s.Step("archive "+name+".tar is refused, and nothing changes", func() {
			s.Refused([]string{"volume", "import", "odd", "-i", filepath.Join(evil, name+".tar")}, "odd")
			s.Refused([]string{"volume", "import", "new", "-i", filepath.Join(evil, name+".tar")}, "new")
			if got := s.content("odd"); got != want {
				t.Errorf("the volume changed:\n%s", got)
			}
			if got := s.volumeNames(); len(got) != 2 {
				t.Errorf("volumes: %v", got)
			}
			for _, path := range []string{"/tmp/dhow-evil", filepath.Join(s.DataDir, "evil")} {
				if _, err := os.Lstat(path); err == nil {
					t.Errorf("%s was written", path)
				}
			}
		})
	}
	s.Run("volume", "rm", "odd", "same")
	s.Clean()
}

package server

import (
	"bufio"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/api"
)

func machine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Machine[:])
}

func memoryTotal() int64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return int64(si.Totalram) * int64(si.Unit) //nolint:gosec // no machine has 8 EiB
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")}
}

// operatingSystem reads os-release: "Debian GNU/Linux 12 (bookworm)" and "12".
func operatingSystem() (name, version string) {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "Linux", ""
	}
	defer f.Close() //nolint:errcheck // read only
	name = "Linux"
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		key, value, _ := strings.Cut(sc.Text(), "=")
		if plain, err := strconv.Unquote(value); err == nil {
			value = plain
		}
		switch key {
		case "PRETTY_NAME":
			name = value
		case "VERSION_ID":
			version = value
		}
	}
	return name, version
}

// layersSize is what all layers occupy: each once, where the store can tell.
func (s *server) layersSize(r *http.Request, out *api.DiskUsage) (int64, error) {
	if s.Layers == nil {
		var sum int64
		for i := range out.Images {
			sum += out.Images[i].Size
		}
		return sum, nil
	}
	total, shared, err := s.Layers(r.Context())
	if err != nil {
		return 0, err
	}
	for i := range out.Images {
		out.Images[i].SharedSize = shared[out.Images[i].ID]
	}
	return total, nil
}

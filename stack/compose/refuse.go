package compose

import (
	"github.com/compose-spec/compose-go/v2/types"
)

// refuseService refuses the keys that dhow does not honour, each with the reason.
func (l *load) refuseService(path string, s types.ServiceConfig) {
	for _, r := range []struct {
		key    string
		given  bool
		reason string
	}{
		{"build", s.Build != nil && s.Image == "", "build is not honoured yet: name the image to run with image"},
		{"develop", s.Develop != nil, "is not honoured yet"},
		{"provider", s.Provider != nil, "is not honoured"},
		{"models", len(s.Models) > 0, "is not honoured yet"},
		{"gpus", len(s.Gpus) > 0, "is not honoured yet; name devices with deploy.resources.reservations.devices, driver: cdi"},
		{"pre_start", len(s.PreStart) > 0, "is not honoured yet; use a service that depends_on waits for"},
		{"external_links", len(s.ExternalLinks) > 0, "is not honoured; use an external network"},
		{"credential_spec", s.CredentialSpec != nil, "is for Windows containers only"},
		{"isolation", s.Isolation != "" && s.Isolation != "default", "is for Windows containers only"},
		{"cpu_count", s.CPUCount != 0, "is for Windows containers only; use cpus"},
		{"cpu_percent", s.CPUPercent != 0, "is for Windows containers only; use cpus"},
		{"storage_opt", len(s.StorageOpt) > 0, "is not honoured: the root file system has no quota"},
		{"umask", s.Umask != nil, "is not honoured yet"},
		{"use_api_socket", s.UseAPISocket, "is not honoured yet"},
		{"pull_refresh_after", s.PullRefreshAfter != "", "is not honoured yet"},
		{"log_driver", s.LogDriver != "", "was replaced by logging"},
		{"log_opt", len(s.LogOpt) > 0, "was replaced by logging"},
		{"net", s.Net != "", "was replaced by network_mode"},
		{"dockerfile", s.Dockerfile != "", "was replaced by build"},
		{"volume_driver", s.VolumeDriver != "", "was replaced by volumes"},
	} {
		if r.given {
			l.fail(path+"."+r.key, "%s", r.reason)
		}
	}
}

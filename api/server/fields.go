package server

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
)

// rule says what becomes of a field of a create request that is set.
type rule struct {
	refused string // why it is refused; "" when it is not
	inert   string // why it has no effect, in Docker as here; "" when it has one
}

var mapped = rule{}

func refused(why string) rule { return rule{refused: why} }
func inert(why string) rule   { return rule{inert: why} }

var (
	windows = refused("it is for Windows containers")
	output  = inert("Docker fills it in answers and does not read it in requests")
)

// createRules has every leaf of createRequest by its path, without indexes. A
// test fails when Docker's types gain a field that is not here, and when a
// mapped one does not change the spec.
var createRules = map[string]rule{
	"Hostname": mapped, "Domainname": mapped, "User": mapped,
	"AttachStdin": mapped, "AttachStdout": mapped, "AttachStderr": mapped,
	"ExposedPorts": mapped, "Tty": mapped, "OpenStdin": mapped, "StdinOnce": mapped,
	"Env": mapped, "Cmd": mapped, "Entrypoint": mapped, "Image": mapped, "WorkingDir": mapped,
	"Healthcheck.Test": mapped, "Healthcheck.Interval": mapped, "Healthcheck.Timeout": mapped,
	"Healthcheck.StartPeriod": mapped, "Healthcheck.StartInterval": mapped, "Healthcheck.Retries": mapped,
	"ArgsEscaped": windows, "Volumes": mapped, "NetworkDisabled": mapped,
	"OnBuild": refused("it belongs to images, not to containers"),
	"Labels":  mapped, "StopSignal": mapped, "StopTimeout": mapped,
	"Shell":      refused("it belongs to images, not to containers"),
	"MacAddress": mapped,

	"HostConfig.Binds":            mapped,
	"HostConfig.ContainerIDFile":  inert("the client writes this file"),
	"HostConfig.LogConfig.Type":   mapped,
	"HostConfig.LogConfig.Config": mapped,
	"HostConfig.NetworkMode":      mapped, "HostConfig.PortBindings": mapped,
	"HostConfig.RestartPolicy.Name": mapped, "HostConfig.RestartPolicy.MaximumRetryCount": mapped,
	"HostConfig.AutoRemove": mapped, "HostConfig.VolumeDriver": mapped, "HostConfig.VolumesFrom": mapped,
	"HostConfig.ConsoleSize": mapped, "HostConfig.Annotations": mapped,
	"HostConfig.CapAdd": mapped, "HostConfig.CapDrop": mapped, "HostConfig.CgroupnsMode": mapped,
	"HostConfig.Dns": mapped, "HostConfig.DnsOptions": mapped, "HostConfig.DnsSearch": mapped,
	"HostConfig.ExtraHosts": mapped, "HostConfig.GroupAdd": mapped, "HostConfig.IpcMode": mapped,
	"HostConfig.Cgroup":      refused("containers do not share cgroups; use CgroupParent"),
	"HostConfig.Links":       refused("links are not offered; put both containers into one network and use their names"),
	"HostConfig.OomScoreAdj": mapped, "HostConfig.PidMode": mapped, "HostConfig.Privileged": mapped,
	"HostConfig.PublishAllPorts": mapped, "HostConfig.ReadonlyRootfs": mapped,
	"HostConfig.SecurityOpt": mapped, "HostConfig.StorageOpt": mapped, "HostConfig.Tmpfs": mapped,
	"HostConfig.UTSMode": mapped, "HostConfig.UsernsMode": mapped, "HostConfig.ShmSize": mapped,
	"HostConfig.Sysctls": mapped, "HostConfig.Runtime": mapped,
	"HostConfig.Umask":     refused("the umask of a container cannot be set"),
	"HostConfig.Isolation": mapped, // "default" only
	"HostConfig.CpuShares": mapped, "HostConfig.Memory": mapped, "HostConfig.NanoCpus": mapped,
	"HostConfig.CgroupParent": mapped, "HostConfig.BlkioWeight": mapped,
	"HostConfig.BlkioWeightDevice.Path": mapped, "HostConfig.BlkioWeightDevice.Weight": mapped,
	"HostConfig.BlkioDeviceReadBps.Path": mapped, "HostConfig.BlkioDeviceReadBps.Rate": mapped,
	"HostConfig.BlkioDeviceWriteBps.Path": mapped, "HostConfig.BlkioDeviceWriteBps.Rate": mapped,
	"HostConfig.BlkioDeviceReadIOps.Path": mapped, "HostConfig.BlkioDeviceReadIOps.Rate": mapped,
	"HostConfig.BlkioDeviceWriteIOps.Path": mapped, "HostConfig.BlkioDeviceWriteIOps.Rate": mapped,
	"HostConfig.CpuPeriod": mapped, "HostConfig.CpuQuota": mapped,
	"HostConfig.CpuRealtimePeriod": mapped, "HostConfig.CpuRealtimeRuntime": mapped,
	"HostConfig.CpusetCpus": mapped, "HostConfig.CpusetMems": mapped,
	"HostConfig.Devices.PathOnHost": mapped, "HostConfig.Devices.PathInContainer": mapped,
	"HostConfig.Devices.CgroupPermissions": mapped, "HostConfig.DeviceCgroupRules": mapped,
	"HostConfig.DeviceRequests.Driver": mapped, "HostConfig.DeviceRequests.DeviceIDs": mapped,
	"HostConfig.DeviceRequests.Count":        refused("devices are requested by their CDI names: driver cdi and DeviceIDs"),
	"HostConfig.DeviceRequests.Capabilities": refused("devices are requested by their CDI names: driver cdi and DeviceIDs"),
	"HostConfig.DeviceRequests.Options":      refused("devices are requested by their CDI names: driver cdi and DeviceIDs"),
	"HostConfig.MemoryReservation":           mapped, "HostConfig.MemorySwap": mapped, "HostConfig.MemorySwappiness": mapped,
	"HostConfig.OomKillDisable": mapped, "HostConfig.PidsLimit": mapped,
	"HostConfig.Ulimits.Name": mapped, "HostConfig.Ulimits.Soft": mapped, "HostConfig.Ulimits.Hard": mapped,
	"HostConfig.CpuCount": windows, "HostConfig.CpuPercent": windows,
	"HostConfig.IOMaximumIOps": windows, "HostConfig.IOMaximumBandwidth": windows,
	"HostConfig.KernelMemory":    refused("kernels no longer limit it"),
	"HostConfig.KernelMemoryTCP": refused("kernels no longer limit it"),
	"HostConfig.Mounts.Type":     mapped, "HostConfig.Mounts.Source": mapped, "HostConfig.Mounts.Target": mapped,
	"HostConfig.Mounts.ReadOnly":                           mapped,
	"HostConfig.Mounts.Consistency":                        inert("it is for Docker Desktop's shared folders"),
	"HostConfig.Mounts.BindOptions.Propagation":            mapped,
	"HostConfig.Mounts.BindOptions.NonRecursive":           mapped,
	"HostConfig.Mounts.BindOptions.CreateMountpoint":       mapped,
	"HostConfig.Mounts.BindOptions.ReadOnlyNonRecursive":   mapped,
	"HostConfig.Mounts.BindOptions.ReadOnlyForceRecursive": mapped,
	"HostConfig.Mounts.VolumeOptions.NoCopy":               mapped,
	"HostConfig.Mounts.VolumeOptions.Labels":               mapped,
	"HostConfig.Mounts.VolumeOptions.Subpath":              mapped,
	"HostConfig.Mounts.VolumeOptions.DriverConfig.Name":    mapped,
	"HostConfig.Mounts.VolumeOptions.DriverConfig.Options": mapped,
	"HostConfig.Mounts.ImageOptions.Subpath":               mapped,
	"HostConfig.Mounts.TmpfsOptions.SizeBytes":             mapped,
	"HostConfig.Mounts.TmpfsOptions.Mode":                  mapped,
	"HostConfig.Mounts.TmpfsOptions.Options":               mapped,
	"HostConfig.MaskedPaths":                               mapped, "HostConfig.ReadonlyPaths": mapped, "HostConfig.Init": mapped,

	"NetworkingConfig.EndpointsConfig.IPAMConfig.IPv4Address":  mapped,
	"NetworkingConfig.EndpointsConfig.IPAMConfig.IPv6Address":  mapped,
	"NetworkingConfig.EndpointsConfig.IPAMConfig.LinkLocalIPs": mapped,
	"NetworkingConfig.EndpointsConfig.Links":                   refused("links are not offered; use Aliases"),
	"NetworkingConfig.EndpointsConfig.Aliases":                 mapped,
	"NetworkingConfig.EndpointsConfig.DriverOpts":              mapped,
	"NetworkingConfig.EndpointsConfig.GwPriority":              mapped,
	"NetworkingConfig.EndpointsConfig.MacAddress":              mapped,
	"NetworkingConfig.EndpointsConfig.NetworkID":               output,
	"NetworkingConfig.EndpointsConfig.EndpointID":              output,
	"NetworkingConfig.EndpointsConfig.Gateway":                 output,
	"NetworkingConfig.EndpointsConfig.IPAddress":               output,
	"NetworkingConfig.EndpointsConfig.IPPrefixLen":             output,
	"NetworkingConfig.EndpointsConfig.IPv6Gateway":             output,
	"NetworkingConfig.EndpointsConfig.GlobalIPv6Address":       output,
	"NetworkingConfig.EndpointsConfig.GlobalIPv6PrefixLen":     output,
	"NetworkingConfig.EndpointsConfig.DNSNames":                output,
}

// updatable are the leaves of an update request that are honoured; the others
// of container.Resources cannot change while a container lives.
var updatable = map[string]bool{
	"CpuShares": true, "Memory": true, "NanoCpus": true, "BlkioWeight": true, "CpuPeriod": true, "CpuQuota": true,
	"CpuRealtimePeriod": true, "CpuRealtimeRuntime": true, "CpusetCpus": true, "CpusetMems": true,
	"MemoryReservation": true, "MemorySwap": true, "PidsLimit": true,
	"RestartPolicy.Name": true, "RestartPolicy.MaximumRetryCount": true,
}

// checkRules reports the first field of v, a struct, that is set and not honoured.
func checkRules(v any, ruleOf func(path string) rule) error {
	return walkSet("", "", reflect.ValueOf(v), func(key, path string) error {
		if why := ruleOf(key).refused; why != "" {
			return invalid("%s is not supported: %s", path, why)
		}
		return nil
	})
}

func createRule(key string) rule { return createRules[key] }

func updateRule(key string) rule {
	if updatable[key] {
		return mapped
	}
	return refused("it cannot be changed after the container was made")
}

// walkSet calls visit for every leaf of v that is not empty: key is its path
// without indexes and map keys, path the one with them.
func walkSet(key, path string, v reflect.Value, visit func(key, path string) error) error {
	for v.Kind() == reflect.Pointer && !v.IsNil() && !isLeaf(v.Type()) {
		v = v.Elem()
	}
	if isLeaf(v.Type()) {
		if empty(v) {
			return nil
		}
		return visit(key, path)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name, anonymous := jsonName(v.Type().Field(i))
			k, p := join(key, name), join(path, name)
			if anonymous {
				k, p = key, path
			}
			if err := walkSet(k, p, v.Field(i), visit); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := walkSet(key, fmt.Sprintf("%s[%d]", path, i), v.Index(i), visit); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if err := walkSet(key, fmt.Sprintf("%s[%v]", path, k), v.MapIndex(k), visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// isLeaf reports whether values of t are looked at as a whole: everything but
// structs, and pointers, slices and maps of structs.
func isLeaf(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return isLeaf(t.Elem())
	case reflect.Map:
		return isLeaf(t.Elem()) || t.Elem().Kind() == reflect.Struct && t.Elem().NumField() == 0
	case reflect.Struct:
		return t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
	}
	return true
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil() || v.Elem().IsZero()
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

func jsonName(f reflect.StructField) (name string, anonymous bool) {
	tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if f.Anonymous && tag == "" {
		return "", true
	}
	if tag == "" {
		tag = f.Name
	}
	return tag, false
}

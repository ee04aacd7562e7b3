package stack

import "time"

// Stack is one Compose project: what a person wants to run.
type Stack struct {
	Name       string             `json:"name"`
	Services   map[string]Service `json:"services"`
	Networks   map[string]Network `json:"networks,omitempty"`   // by key in the file
	Volumes    map[string]Volume  `json:"volumes,omitempty"`    // by key in the file
	Secrets    map[string]Secret  `json:"secrets,omitempty"`    // by key in the file
	Configs    map[string]Config  `json:"configs,omitempty"`    // by key in the file
	WorkingDir string             `json:"workingDir,omitempty"` // on the machine that loaded it; for Compose's labels only
	Files      []string           `json:"files,omitempty"`      // likewise
	EnvFiles   []string           `json:"envFiles,omitempty"`   // likewise
	Home       string             `json:"home,omitempty"`       // ID of the node where it was applied and so where WorkingDir is
	Disabled   []string           `json:"disabled,omitempty"`   // services of the file that are left out this time (profile, selection): what exists of them stays and is no orphan
}

// Service is a template for tasks and how many of them there should be.
type Service struct {
	Name          string            `json:"name"`
	Container     ContainerSpec     `json:"container"`
	ContainerName string            `json:"containerName,omitempty"` // "": STACK-SERVICE-SLOT
	Mode          Mode              `json:"mode,omitempty"`
	Replicas      int               `json:"replicas"`                // wanted number of tasks; for jobs the total of completions
	MaxConcurrent int               `json:"maxConcurrent,omitempty"` // jobs: at once; 0 is Replicas
	DependsOn     []Dependency      `json:"dependsOn,omitempty"`     // sorted by Service
	Deploy        Deploy            `json:"deploy"`
	Profiles      []string          `json:"profiles,omitempty"`
	Links         []string          `json:"links,omitempty"`       // "service[:alias]"; the loader has made the alias a network alias of that service
	Labels        map[string]string `json:"labels,omitempty"`      // of the service (deploy.labels); the container's are in Container
	Build         bool              `json:"build,omitempty"`       // the file also has a build section: a missing image that cannot be pulled has to be built first
	NoAttach      bool              `json:"noAttach,omitempty"`    // `up` does not follow its logs (attach: false)
	Exclusive     bool              `json:"exclusive,omitempty"`   // never two containers of one slot: a node that has lost the cluster stops it before another one starts it (x-dhow)
	Sticky        bool              `json:"sticky,omitempty"`      // a client's connections through the service's virtual address and ports go to one task (x-dhow)
	PreferLocal   bool              `json:"preferLocal,omitempty"` // published ports prefer the tasks of the node that was asked (x-dhow)
}

// Virtual reports whether the service has an address of its own in each of its
// networks, beside those of its tasks.
func (s *Service) Virtual() bool {
	return s.Deploy.EndpointMode != "dnsrr" && s.Mode != ReplicatedJob && s.Mode != GlobalJob && s.Container.OwnNetworks()
}

// IngressPorts are the ports that every node of a cluster publishes.
func (s *Service) IngressPorts() (out []Port) {
	if !s.Container.OwnNetworks() {
		return nil
	}
	for _, p := range s.Container.Ports {
		if p.Mode != "host" {
			out = append(out, p)
		}
	}
	return out
}

// Key is what a service is called outside of its stack: "shop/web".
func (t Task) Key() string { return t.Stack + "/" + t.Service }

// Mode is how the number of tasks of a service is found.
type Mode string

// The modes of a service.
const (
	Replicated    Mode = ""
	Global        Mode = "global"
	ReplicatedJob Mode = "replicated-job"
	GlobalJob     Mode = "global-job"
)

// Condition of a dependency.
type Condition string

// The conditions of depends_on.
const (
	Started   Condition = "service_started"
	Healthy   Condition = "service_healthy"
	Completed Condition = "service_completed_successfully"
)

// Dependency holds back a service's tasks until another service fulfils Condition.
type Dependency struct {
	Service   string    `json:"service"`
	Condition Condition `json:"condition"`
	Restart   bool      `json:"restart,omitempty"`  // restart this service when the other one is updated or restarted by a person
	Optional  bool      `json:"optional,omitempty"` // Compose's required: false
}

// Deploy holds what concerns the placing and updating of tasks.
type Deploy struct {
	Constraints        []string    `json:"constraints,omitempty"`
	Preferences        []string    `json:"preferences,omitempty"` // spread descriptors: "node.labels.zone"
	MaxReplicasPerNode int         `json:"maxReplicasPerNode,omitempty"`
	EndpointMode       string      `json:"endpointMode,omitempty"` // "", "vip", "dnsrr"
	Update             *UpdateRule `json:"update,omitempty"`
	Rollback           *UpdateRule `json:"rollback,omitempty"`
}

// UpdateRule is Compose's update_config or rollback_config.
type UpdateRule struct {
	Parallelism     int           `json:"parallelism"` // 0 is all at once
	Delay           time.Duration `json:"delay,omitempty"`
	FailureAction   string        `json:"failureAction,omitempty"` // "pause", "continue", "rollback"
	Monitor         time.Duration `json:"monitor,omitempty"`
	MaxFailureRatio float64       `json:"maxFailureRatio,omitempty"`
	Order           string        `json:"order,omitempty"` // "start-first", "stop-first"
}

// Volume is a named volume of a stack.
type Volume struct {
	Name       string            `json:"name"`          // real name: "shop_data"
	Key        string            `json:"key,omitempty"` // key in the stack file: "data"
	External   bool              `json:"external,omitempty"`
	Driver     string            `json:"driver,omitempty"` // "" is "local"
	DriverOpts map[string]string `json:"driverOpts,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// Secret is a small piece of confidential data.
type Secret struct {
	Name     string            `json:"name"`
	Key      string            `json:"key,omitempty"`
	External bool              `json:"external,omitempty"`
	Data     []byte            `json:"data,omitempty"`
	Sum      string            `json:"sum,omitempty"` // stands for Data where that must not be: a keyed digest by the cluster, which fills it in
	Labels   map[string]string `json:"labels,omitempty"`
}

// Config is a small file that is not confidential.
type Config struct {
	Name     string            `json:"name"`
	Key      string            `json:"key,omitempty"`
	External bool              `json:"external,omitempty"`
	Data     []byte            `json:"data,omitempty"`
	Sum      string            `json:"sum,omitempty"` // like that of a Secret
	Labels   map[string]string `json:"labels,omitempty"`
}

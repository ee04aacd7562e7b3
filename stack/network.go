package stack

// Attachment is one container's place in one network.
type Attachment struct {
	Network       string            `json:"network"` // key in Stack.Networks; the engine gets the real network name or ID
	Aliases       []string          `json:"aliases,omitempty"`
	IPv4          string            `json:"ipv4,omitempty"` // static address, no prefix length
	IPv6          string            `json:"ipv6,omitempty"`
	LinkLocalIPs  []string          `json:"linkLocalIPs,omitempty"`
	MacAddress    string            `json:"macAddress,omitempty"`
	Priority      int               `json:"priority,omitempty"`   // higher is connected first; the first gives eth0
	GwPriority    int               `json:"gwPriority,omitempty"` // highest gives the default route
	InterfaceName string            `json:"interfaceName,omitempty"`
	DriverOpts    map[string]string `json:"driverOpts,omitempty"`

	Given4 string `json:"given4,omitempty"` // address that the managers chose for a task; "": none. No prefix length
	Given6 string `json:"given6,omitempty"`
}

// Port is one published port, or a range of equal length on both sides.
type Port struct {
	HostIP        string `json:"hostIP,omitempty"`      // "" is every address, IPv4 and IPv6
	HostPort      uint16 `json:"hostPort,omitempty"`    // 0: a free one, or one of HostPort..HostPortEnd when that is set
	HostPortEnd   uint16 `json:"hostPortEnd,omitempty"` // when > HostPort and the container side is one port: any free one of the range
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol,omitempty"` // "tcp" (default), "udp", "sctp"
	Mode          string `json:"mode,omitempty"`     // "ingress" (default), "host"
	Name          string `json:"name,omitempty"`
	AppProtocol   string `json:"appProtocol,omitempty"`
}

// Dynamic reports whether the host port is to be chosen.
func (p Port) Dynamic() bool { return p.HostPort == 0 || p.HostPortEnd > p.HostPort }

// Network is a network of a stack, or one made by hand (no Stack).
type Network struct {
	Name       string            `json:"name"`          // real name: "shop_front"
	Key        string            `json:"key,omitempty"` // key in the stack file: "front"
	Stack      string            `json:"stack,omitempty"`
	ID         string            `json:"id,omitempty"` // 64 hex digits; set when it enters the replicated state
	External   bool              `json:"external,omitempty"`
	Driver     string            `json:"driver,omitempty"` // "" and "bridge" and "overlay" are dhow's own; "host", "none"
	DriverOpts map[string]string `json:"driverOpts,omitempty"`
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	EnableIPv4 *bool             `json:"enableIPv4,omitempty"`
	EnableIPv6 bool              `json:"enableIPv6,omitempty"`
	Subnets    []Subnet          `json:"subnets,omitempty"` // asked for; none: from the pools. Resolved ones replace these in the replicated state
	IPAMDriver string            `json:"ipamDriver,omitempty"`
	IPAMOpts   map[string]string `json:"ipamOpts,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Created    int64             `json:"created,omitempty"` // Unix nanoseconds

	VNI     int                 `json:"vni,omitempty"`     // VXLAN network identifier, 24 bits; chosen by the managers. 0: it does not leave its node
	Virtual []string            `json:"virtual,omitempty"` // ranges of the services' virtual addresses, outside the subnets; chosen by the managers
	Forward map[string][]string `json:"forward,omitempty"` // domain to the resolvers that know it (x-dhow)
}

// Subnet is one address range of a network.
type Subnet struct {
	CIDR    string            `json:"cidr,omitempty"`    // "10.1.0.0/24"
	Gateway string            `json:"gateway,omitempty"` // "": the first address
	Range   string            `json:"range,omitempty"`   // addresses are taken from this part only
	Aux     map[string]string `json:"aux,omitempty"`     // reserved addresses by name
}

// NetworkOptions are the driver options of networks that are honoured. What
// they mean is overlaynet's business; the file loader refuses others with their line.
var NetworkOptions = []string{
	"com.docker.network.bridge.default_bridge",
	"com.docker.network.bridge.enable_icc",
	"com.docker.network.bridge.enable_ip_masquerade",
	"com.docker.network.bridge.gateway_mode_ipv4",
	"com.docker.network.bridge.gateway_mode_ipv6",
	"com.docker.network.bridge.host_binding_ipv4",
	"com.docker.network.bridge.name",
	"com.docker.network.container_iface_prefix",
	"com.docker.network.driver.mtu",
	"mtu",
}

// AttachmentOptions are the driver options of one service's place in a network that are honoured.
var AttachmentOptions = []string{"com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"}

package stack

// Assignment is one task with all that its node needs to run it. What it
// points to is shared and must not be changed.
type Assignment struct {
	Task    Task
	Service *Service          // spec of Task.Version; nil when it is not known any more: the task can only be removed
	Stack   *Stack            // without Services and Data: names of networks, volumes, secrets, configs; nil like Service
	Hash    string            // of the service version, for Compose's config-hash label
	Secrets map[string][]byte // by key
	Configs map[string][]byte // by key
	Auth    *RegistryAuth     // for the registry of the service's image, as given with the deployment; nil: what the node knows
}

// TaskReport is what a node observed of one task.
type TaskReport struct {
	Task   string // ID
	Status TaskStatus
}

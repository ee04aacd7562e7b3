package record

// Config of a container's log.
type Config struct {
	Driver   string `json:"driver,omitempty"`   // "none" keeps nothing; "", "json-file" and "local" are the file
	Path     string `json:"path,omitempty"`     // of the current file; its directory exists
	MaxSize  int64  `json:"maxSize,omitempty"`  // bytes per file; 0 is unlimited
	MaxFiles int    `json:"maxFiles,omitempty"` // with the current one; 0 is 1
}

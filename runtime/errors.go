package runtime

import "errors"

// Sentinels that the node's parts wrap, for callers that branch; the API
// server maps them to HTTP statuses.
var (
	ErrNotFound    = errors.New("not found")        // 404
	ErrConflict    = errors.New("conflict")         // 409
	ErrNotModified = errors.New("not modified")     // 304
	ErrInvalid     = errors.New("invalid argument") // 400
	ErrForbidden   = errors.New("forbidden")        // 403
	ErrNotRunning  = errors.New("not running")      // 409
	ErrUnavailable = errors.New("unavailable")      // 503: may go by itself; nothing has been done
)

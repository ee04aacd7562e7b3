package api

import "github.com/dhow-project/dhow/stack"

// CreateRequest is the body of POST /dhow/v1/containers.
type CreateRequest struct {
	Spec stack.ContainerSpec `json:"spec"`
}

// CreateResponse is its answer.
type CreateResponse struct {
	ID       string   `json:"id"`
	Warnings []string `json:"warnings,omitempty"`
}

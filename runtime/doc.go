// Package runtime holds the nouns of the node side: Container, Exec, Image,
// Event and the options of the calls that handle them.
//
// It imports the standard library and stack only. The engine produces these
// values, the API server translates them to Docker's JSON, the agent decides
// on them; each declares the interface it needs over these types.
package runtime

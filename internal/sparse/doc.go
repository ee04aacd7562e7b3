// Package sparse writes files with holes where their content is zero.
package sparse

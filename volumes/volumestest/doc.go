// Package volumestest makes volume managers for tests, with the real drivers
// over directories that go with the test.
package volumestest

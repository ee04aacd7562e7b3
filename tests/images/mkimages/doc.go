// Mkimages makes the images that tests and examples run; see package images.
//
//	go run ./tests/images/mkimages [-C build/images] [REF...]
package main

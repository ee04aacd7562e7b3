//go:build race

package consensus

const raceEnabled = true // speed is not judged then

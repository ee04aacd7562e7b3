package schedule

import "slices"

// fan is how many scores of one level have their least in one of the next.
const fan = 8

// minima is a list of scores that knows its least. Changing one costs the
// logarithm of their number.
type minima struct {
	levels [][]uint64 // the scores, then the least of each fan of the level before, down to one
}

// newMinima holds n scores, all never.
func newMinima(n int) minima {
	var m minima
	for {
		level := make([]uint64, n)
		for i := range level {
			level[i] = never
		}
		m.levels = append(m.levels, level)
		if n <= 1 {
			return m
		}
		n = (n + fan - 1) / fan
	}
}

// scores is to be followed by settle when it was written to.
func (m *minima) scores() []uint64 { return m.levels[0] }

// settle makes the upper levels right again.
func (m *minima) settle() {
	for l := 1; l < len(m.levels); l++ {
		below := m.levels[l-1]
		for i := range m.levels[l] {
			m.levels[l][i] = slices.Min(below[i*fan : min((i+1)*fan, len(below))])
		}
	}
}

func (m *minima) get(i int) uint64 { return m.levels[0][i] }

func (m *minima) set(i int, score uint64) {
	if m.levels[0][i] == score {
		return
	}
	m.levels[0][i] = score
	for l := 1; l < len(m.levels); l++ {
		i /= fan
		below := m.levels[l-1]
		least := slices.Min(below[i*fan : min((i+1)*fan, len(below))])
		if m.levels[l][i] == least {
			return
		}
		m.levels[l][i] = least
	}
}

// least returns the least score, never if there is none, and its place: the first of equals.
func (m *minima) least() (int, uint64) {
	top := m.levels[len(m.levels)-1]
	if len(top) == 0 {
		return -1, never
	}
	i, score := 0, top[0]
	for l := len(m.levels) - 2; l >= 0; l-- {
		below := m.levels[l]
		i *= fan
		for below[i] != score {
			i++
		}
	}
	return i, score
}

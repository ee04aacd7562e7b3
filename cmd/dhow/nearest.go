package main

import (
	"fmt"
	"strings"
)

// noService is about a name that the file or the stack does not have.
func noService(where, name string, have []string) error {
	meant := ""
	if near := nearest(name, have); near != "" {
		meant = " (" + near + "?)"
	}
	return fmt.Errorf("%sno service %s%s; there are: %s", where, name, meant, strings.Join(have, ", "))
}

// nearest is the candidate that a person may have meant: the only one that
// begins like name, or one that few typing errors turn into it; "" when none is near.
func nearest(name string, candidates []string) string {
	var begins []string
	best, least := "", max(1, len(name)/3)
	for _, c := range candidates {
		if name != "" && strings.HasPrefix(c, name) {
			begins = append(begins, c)
		}
		if d := distance(name, c); d <= least && (best == "" || d < least) {
			best, least = c, d
		}
	}
	if len(begins) == 1 {
		return begins[0]
	}
	return best
}

// distance is how many letters differ, are missing, are too many or changed places with the next.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = min(rows[i-1][j-1], rows[i-1][j], rows[i][j-1]) + 1
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

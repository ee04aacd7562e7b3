package loop

import (
	"container/heap"
	"time"
)

// queue holds the stacks to look at, in the order in which they became due, so
// that a large one that is due all the time does not keep the others waiting.
type queue struct {
	order  []string // some may not be due any more
	due    map[string]bool
	rest   map[string]time.Time // not to be looked at before
	again  map[string]time.Time // due at this time
	timers timers               // of again; some may be out of date
	tried  map[string]time.Time // when a stack was last made due for room elsewhere
}

func newQueue() queue {
	return queue{due: map[string]bool{}, rest: map[string]time.Time{}, again: map[string]time.Time{}, tried: map[string]time.Time{}}
}

// restPerTask is how long a stack is left alone after a look, for each task that
// was looked at: a few times as long as the look took. What happens in the
// meantime is looked at in one go.
const restPerTask = 4 * time.Microsecond

// restless is how many tasks a stack may have and be looked at all the time.
const restless = 500

// retryPending is how often tasks that fit nowhere are tried because others
// went; a node that comes or grows is tried at once.
const retryPending = time.Second

func (q *queue) add(name string) {
	if q.due[name] {
		return
	}
	q.due[name] = true
	q.order = append(q.order, name)
}

// at makes a stack due at a time; the earliest counts.
func (q *queue) at(name string, at time.Time) {
	if old, ok := q.again[name]; ok && !at.Before(old) {
		return
	}
	q.again[name] = at
	heap.Push(&q.timers, timer{at, name})
}

// soon makes a stack due because there may be room for what waits.
func (q *queue) soon(name string, now time.Time, atOnce bool) {
	next := q.tried[name].Add(retryPending)
	if atOnce || !next.After(now) {
		q.tried[name] = now
		q.add(name)
		return
	}
	q.at(name, next)
}

// looked notes a look, after which again starts anew.
func (q *queue) looked(name string, now time.Time, tasks int) {
	delete(q.again, name)
	delete(q.rest, name)
	if tasks > restless {
		q.rest[name] = now.Add(time.Duration(tasks) * restPerTask)
	}
}

func (q *queue) forget(name string) {
	for _, m := range []map[string]time.Time{q.rest, q.again, q.tried} {
		delete(m, name)
	}
	delete(q.due, name)
}

// next takes the first stack that is due and has rested.
func (q *queue) next(now time.Time) (string, bool) {
	for len(q.timers) > 0 && !q.timers[0].at.After(now) {
		t := heap.Pop(&q.timers).(timer)
		if at, ok := q.again[t.name]; ok && !at.After(now) {
			delete(q.again, t.name)
			q.add(t.name)
		}
	}
	for len(q.order) > 0 {
		name := q.order[0]
		q.order[0] = ""
		q.order = q.order[1:]
		if !q.due[name] { // forgotten
			continue
		}
		delete(q.due, name)
		if rest := q.rest[name]; rest.After(now) {
			q.at(name, rest)
			continue
		}
		return name, true
	}
	return "", false
}

// wake returns when the next stack can be looked at; zero: none is waiting.
func (q *queue) wake(now time.Time) time.Time {
	if len(q.due) > 0 {
		return now
	}
	for len(q.timers) > 0 {
		t := q.timers[0]
		if at, ok := q.again[t.name]; ok && at.Equal(t.at) {
			return t.at
		}
		heap.Pop(&q.timers) // another time has taken its place
	}
	return time.Time{}
}

type timer struct {
	at   time.Time
	name string
}

// timers is a heap, the earliest first.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

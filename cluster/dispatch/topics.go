package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dhow-project/dhow/stack"
)

// topics are the directories that some session is told of: for each a board of
// its own, so that a change costs what its readers get. A directory that nobody
// reads is not kept.
type topics struct {
	core Core

	// Held while the state is asked as well: of two answers the older one must
	// not be posted last.
	mu     sync.Mutex
	boards map[string]*shelf // guarded by mu
}

// shelf is the board of one topic, and who reads it.
type shelf struct {
	board   *board
	readers map[*session]bool
}

func newTopics(core Core) *topics { return &topics{core: core, boards: map[string]*shelf{}} }

// spread takes changes in and returns the topics that have news, with their readers.
func (t *topics) spread(c Touched) (map[string][]*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var news map[string][]*session
	post := func(topic string, keys []string) error {
		s := t.boards[topic]
		if s == nil {
			return nil
		}
		changed, err := s.board.put(records(t.core.Directory(topic, keys)), keys)
		if err != nil || !changed {
			return err
		}
		if news == nil {
			news = map[string][]*session{}
		}
		for r := range s.readers {
			news[topic] = append(news[topic], r)
		}
		return nil
	}
	if c.All {
		for topic := range t.boards {
			if err := post(topic, nil); err != nil {
				return news, err
			}
		}
		return news, nil
	}
	for topic, keys := range c.Topics {
		if err := post(topic, keys); err != nil {
			return news, err
		}
	}
	return news, nil
}

// enter makes a session a reader.
func (t *topics) enter(topic string, s *session) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	sh := t.boards[topic]
	if sh == nil {
		sh = &shelf{board: newBoard(), readers: map[*session]bool{}}
		if _, err := sh.board.put(records(t.core.Directory(topic, nil)), nil); err != nil {
			return err
		}
		t.boards[topic] = sh
	}
	sh.readers[s] = true
	return nil
}

func (t *topics) leave(topic string, s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sh := t.boards[topic]
	if sh == nil {
		return
	}
	if delete(sh.readers, s); len(sh.readers) == 0 {
		delete(t.boards, topic)
	}
}

// news of a topic for one of its readers; nil: nothing.
func (t *topics) news(topic string, seen *reader) *topicNews {
	t.mu.Lock()
	defer t.mu.Unlock()
	sh := t.boards[topic]
	if sh == nil {
		return nil
	}
	of := max(len(seen.sums), 1)
	number, first := seen.number, !seen.read
	seen.number, seen.read = sh.board.number, true
	var n *news
	if first {
		n = sh.board.all(seen.sums, of)
	} else {
		n = sh.board.since(number, of)
	}
	if n == nil {
		return nil
	}
	out := &topicNews{Topic: topic, News: n}
	if len(n.Clear) > 0 {
		out.Of = of
	}
	return out
}

// records takes a directory apart.
func records(d *stack.Directory) []item {
	if d == nil {
		return nil
	}
	out := make([]item, 0, len(d.Endpoints)+len(d.Services)+len(d.Published))
	for i := range d.Endpoints {
		out = append(out, item{key: EndpointKey(d.Endpoints[i].ID), record: &d.Endpoints[i]})
	}
	for i := range d.Services {
		out = append(out, item{key: ServiceKey(d.Services[i].Service), record: &d.Services[i]})
	}
	for i := range d.Published {
		out = append(out, item{key: PublishedKey(d.Published[i].Service), record: &d.Published[i]})
	}
	return out
}

// subscriptions are the topics that one session reads. They belong to its sender.
type subscriptions struct {
	session *session
	topics  map[string]*reader
	kept    map[string][]uint64 // sums of what the node has of a former session, until the first look
}

// next makes the news of the topics that have some. The node's topics are looked
// at again where that is asked for.
func (u *subscriptions) next(again bool, dirty map[string]bool) ([]topicNews, error) {
	all := u.session.reign.topics
	var out []topicNews
	if again {
		want := u.session.reign.core.Topics(u.session.node)
		for topic := range u.topics {
			if !slices.Contains(want, topic) {
				all.leave(topic, u.session)
				delete(u.topics, topic)
				out = append(out, topicNews{Topic: topic, End: true})
			}
		}
		for topic := range u.kept {
			if !slices.Contains(want, topic) {
				out = append(out, topicNews{Topic: topic, End: true})
			}
		}
		for _, topic := range want {
			if u.topics[topic] != nil {
				continue
			}
			if err := all.enter(topic, u.session); err != nil {
				return nil, fmt.Errorf("directory of %q: %w", topic, err)
			}
			u.topics[topic], dirty[topic] = &reader{sums: u.kept[topic]}, true
		}
		u.kept = nil
	}
	for topic := range dirty {
		seen := u.topics[topic]
		if seen == nil {
			continue
		}
		if n := all.news(topic, seen); n != nil {
			out = append(out, *n)
		}
	}
	slices.SortFunc(out, func(a, b topicNews) int { return strings.Compare(a.Topic, b.Topic) })
	return out, nil
}

// end gives all of them up.
func (u *subscriptions) end() {
	for topic := range u.topics {
		u.session.reign.topics.leave(topic, u.session)
	}
}

package schedule

// index keeps the scores of all hosts for one kind of request.
type index struct{}

func (c *Cluster) indexed(w *want) *host { return c.best(w, c.hosts) }

func (w *want) signature() string { return w.need.sig }
